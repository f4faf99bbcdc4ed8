"""What the API server keeps: objects with versions, checked as Kubernetes checks them."""

import copy
import itertools
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import kubernetes_validate
from kubernetes_validate.utils import ValidationError

Object = dict[str, Any]
SCHEMAS = "1.37"
_LABEL = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_DNS_1123 = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_DNS_1035 = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")


@dataclass(frozen=True)
class Kind:
    """One kind of object, and the path it is reached by."""

    group: str
    version: str
    plural: str
    name: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
SERVICE = Kind("", "v1", "services", "Service")
POD = Kind("", "v1", "pods", "Pod")
AUTOSCALER = Kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
KINDS = (DEPLOYMENT, SERVICE, POD, AUTOSCALER)


class StatusError(Exception):
    """An answer that is no object."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason

    @property
    def body(self) -> Object:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "code": self.code,
        }


def invalid(message: str) -> StatusError:
    return StatusError(422, "Invalid", message)


@dataclass
class Objects:
    """All objects of a cluster; each write gives a new version, a write of nothing new none."""

    namespaces: set[str]
    changed: Callable[[], None] = lambda: None
    kept: dict[tuple[Kind, str, str], Object] = field(default_factory=dict)
    writes: list[tuple[str, str, str]] = field(default_factory=list)
    _versions: Iterator[int] = field(default_factory=lambda: itertools.count(1000))

    def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        if namespace not in self.namespaces:
            raise StatusError(404, "NotFound", f'namespaces "{namespace}" not found')
        made = copy.deepcopy(body)
        metadata = made.get("metadata") or {}
        name = metadata.get("name", "")
        if metadata.setdefault("namespace", namespace) != namespace:
            raise StatusError(400, "BadRequest", "the namespace of the object is another")
        if metadata.get("resourceVersion"):
            raise invalid("metadata.resourceVersion: must not be set when creating")
        if (kind, namespace, name) in self.kept:
            raise StatusError(409, "AlreadyExists", f'{kind.plural} "{name}" already exists')
        _default(kind, made)
        _check(kind, made)
        metadata |= {
            "uid": str(uuid.uuid4()),
            "generation": 1,
            "creationTimestamp": datetime.now(UTC).isoformat(),
            "resourceVersion": str(next(self._versions)),
        }
        self.kept[kind, namespace, name] = made
        self._wrote("create", kind, name)
        return copy.deepcopy(made)

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        found = self.kept.get((kind, namespace, name))
        if found is None:
            raise StatusError(404, "NotFound", f'{kind.plural} "{name}" not found')
        return copy.deepcopy(found)

    def list(self, kind: Kind, namespace: str, selector: str = "") -> list[Object]:
        wanted = dict(each.split("=", 1) for each in selector.split(",") if each)
        return [
            copy.deepcopy(each)
            for (its, where, _), each in sorted(self.kept.items(), key=lambda item: item[0][2])
            if (its, where) == (kind, namespace)
            and wanted.items() <= each["metadata"].get("labels", {}).items()
        ]

    def merge(self, kind: Kind, namespace: str, name: str, patch: Object) -> Object:
        """Apply a JSON merge patch (RFC 7386); one that names a version applies to it alone."""
        before = self.get(kind, namespace, name)
        self._same_version(before, patch)
        after = merged(before, patch)
        _default(kind, after)
        _check(kind, after)
        for part in ("uid", "creationTimestamp", "name", "namespace"):
            if after["metadata"].get(part) != before["metadata"][part]:
                raise invalid(f"metadata.{part}: field is immutable")
        if kind is DEPLOYMENT and after["spec"]["selector"] != before["spec"]["selector"]:
            raise invalid("spec.selector: field is immutable")
        return self._keep(kind, before, after)

    def scale(self, namespace: str, name: str, patch: Object) -> Object:
        """Change a Deployment's replicas and nothing else of it."""
        before = self.get(DEPLOYMENT, namespace, name)
        self._same_version(before, patch)
        replicas = patch.get("spec", {}).get("replicas")
        if not isinstance(replicas, int) or replicas < 0:
            raise invalid("spec.replicas: must be greater than or equal to 0")
        after = copy.deepcopy(before)
        after["spec"]["replicas"] = replicas
        return scale_of(self._keep(DEPLOYMENT, before, after))

    def report(self, namespace: str, name: str, **status: Any) -> None:
        """Have a pod's status say so, as its kubelet reports it."""
        pod = self.kept.get((POD, namespace, name))
        if pod is not None and not status.items() <= pod["status"].items():
            pod["status"] |= status
            pod["metadata"]["resourceVersion"] = str(next(self._versions))
            self.changed()

    def delete(self, kind: Kind, namespace: str, name: str) -> Object:
        """Delete an object; a pod is only marked, and goes once its processes have ended."""
        found = self.get(kind, namespace, name)
        if kind is POD:
            marked = self.kept[kind, namespace, name]["metadata"]
            marked.setdefault("deletionTimestamp", datetime.now(UTC).isoformat())
            self._wrote("delete", kind, name)
        else:
            self.drop(kind, namespace, name)
        return found

    def drop(self, kind: Kind, namespace: str, name: str) -> None:
        """Forget an object."""
        if self.kept.pop((kind, namespace, name), None) is not None:
            self._wrote("delete", kind, name)

    def collect(self) -> None:
        """Delete what belonged to something that is there no more."""
        there = {each["metadata"]["uid"] for each in self.kept.values()}
        for (kind, namespace, name), each in list(self.kept.items()):
            owners = {one["uid"] for one in each["metadata"].get("ownerReferences", ())}
            leaving = "deletionTimestamp" in each["metadata"]
            if owners and owners.isdisjoint(there) and not leaving:
                self.delete(kind, namespace, name)

    def _same_version(self, found: Object, patch: Object) -> None:
        wanted = patch.get("metadata", {}).get("resourceVersion")
        if wanted not in (None, found["metadata"]["resourceVersion"]):
            raise StatusError(
                409, "Conflict", "the object has been modified; please apply your changes"
            )

    def _keep(self, kind: Kind, before: Object, after: Object) -> Object:
        metadata = after["metadata"]
        metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
        if after == before:
            return after
        if after["spec"] != before["spec"]:
            metadata["generation"] += 1
        metadata["resourceVersion"] = str(next(self._versions))
        self.kept[kind, metadata["namespace"], metadata["name"]] = after
        self._wrote("update", kind, metadata["name"])
        return copy.deepcopy(after)

    def _wrote(self, verb: str, kind: Kind, name: str) -> None:
        self.writes.append((verb, kind.plural, name))
        self.changed()


def merged(before: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    after = dict(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            after.pop(name, None)
        else:
            after[name] = merged(after.get(name), value)
    return after


def scale_of(deployment: Object) -> Object:
    metadata = deployment["metadata"]
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {
            name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")
        },
        "spec": {"replicas": deployment["spec"]["replicas"]},
        "status": {"replicas": deployment["spec"]["replicas"]},
    }


def _default(kind: Kind, made: Object) -> None:
    """Fill in what the API server fills in, as far as anybody here looks."""
    spec = made.setdefault("spec", {})
    if kind is DEPLOYMENT:
        spec.setdefault("replicas", 1)
        spec["template"]["spec"].setdefault("restartPolicy", "Always")
    if kind is SERVICE:
        spec.setdefault("clusterIP", "10.96.0.7")
        for port in spec.get("ports", ()):
            port.setdefault("protocol", "TCP")


def _check(kind: Kind, made: Object) -> None:
    try:
        kubernetes_validate.validate(_written(made), SCHEMAS, strict=True)
    except ValidationError as error:
        path = ".".join(map(str, error.path))
        raise invalid(f"{path}: {error.message[:300]}") from error
    metadata = made["metadata"]
    pattern = _DNS_1035 if kind is SERVICE else _DNS_1123
    if not pattern.match(metadata["name"]) or len(metadata["name"]) > 63:
        raise invalid(f"metadata.name: {metadata['name']!r} is no DNS label")
    for name, value in metadata.get("labels", {}).items():
        if not _LABEL.match(value) or len(value) > 63:
            raise invalid(f"metadata.labels.{name}: {value!r} is no label")
    spec = made["spec"]
    if kind is DEPLOYMENT:
        labels = spec["template"]["metadata"].get("labels", {})
        if not spec["selector"]["matchLabels"].items() <= labels.items():
            raise invalid("spec.template.metadata.labels: must match the selector")
    if kind is AUTOSCALER and not 1 <= spec["minReplicas"] <= spec["maxReplicas"]:
        raise invalid("spec.minReplicas: must be from 1 to maxReplicas")


def _written(made: Object) -> Object:
    """Return an object without what only the cluster writes, some of which schemas lack."""
    return {name: value for name, value in made.items() if name != "status"}
