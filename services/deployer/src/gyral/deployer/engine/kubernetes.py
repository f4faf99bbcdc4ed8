"""Groups of runtimes in a Kubernetes cluster: Deployments that its autoscaler moves."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar, cast

import aiohttp
from kubernetes_asyncio import client as k8s
from kubernetes_asyncio.config.config_exception import ConfigException
from kubernetes_asyncio.config.incluster_config import InClusterConfigLoader

from gyral.deployer.engine.backend import GroupSpec, Member
from gyral.deployer.engine.members import age, group_of, member_of
from gyral.deployer.engine.workloads import (
    DATA_PORT,
    DIGEST,
    RUNTIMES,
    Manifest,
    Pods,
    autoscaler,
    deployment,
    digest_of,
    service,
    workload,
)
from gyral.kit.health import UnstartableError
from gyral.kit.telemetry import get_log

T = TypeVar("T")
_ATTEMPTS = 5
"""Times that a write is tried which others get in the way of."""
_OURS = ",".join(f"{name}={value}" for name, value in RUNTIMES.items())
_MERGE = "application/merge-patch+json"
"""Replaces lists whole, and leaves alone what it does not name: the number of replicas."""
_ADVICE: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: ". Look at the token in KUBERNETES_CREDENTIALS",
    HTTPStatus.FORBIDDEN: ". Look at the deployer's Role, and at the namespace's quotas",
    HTTPStatus.NOT_FOUND: ". See that the namespace is there that KUBERNETES_NAMESPACE names",
}
log = get_log()


class RefusedByClusterError(ConnectionError):
    """The API server answered, and said no; it is asked again, as rules and quotas change."""


class _AbsentError(RefusedByClusterError):
    """There is no such object, or no such namespace."""


class _ConflictError(RefusedByClusterError):
    """Somebody else was there first."""


_OF_OTHERS: Mapping[int, type[RefusedByClusterError]] = {
    HTTPStatus.NOT_FOUND: _AbsentError,
    HTTPStatus.CONFLICT: _ConflictError,
}
"""What is looked at again before it is told: others come and go."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the API server is, and what it is shown."""

    host: str
    port: int
    credentials: Path
    """Folder with `token` and `ca.crt`, as a pod with a service account finds them."""
    timeout_s: float
    """How long one answer may take."""
    rest_s: float = 30.0
    """How long what was found as wanted is not looked at again, unless a listing differs."""
    fresh_s: float = 0.5
    """How long a listing serves all who ask for one."""


class Kubernetes:
    """A backend whose members are pods; what it knows, it reads from the cluster each time.

    The deployer says whether a group has runtimes at all; how many, from one to the group's
    most, is the autoscaler's affair.
    """

    elastic = True

    def __init__(
        self, cluster: Cluster, pods: Pods, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._pods = pods
        self._clock = clock
        self._settled: dict[str, tuple[GroupSpec, float]] = {}
        self._listed: tuple[float, dict[str, tuple[Member, ...]]] | None = None
        self._client: k8s.ApiClient | None = None

    async def start(self) -> None:
        """Read what the API server is shown.

        Raises:
            UnstartableError: it is not there.
        """
        where = self._cluster
        loader = InClusterConfigLoader(
            token_filename=str(where.credentials / "token"),
            cert_filename=str(where.credentials / "ca.crt"),
            environ={
                "KUBERNETES_SERVICE_HOST": where.host,
                "KUBERNETES_SERVICE_PORT": str(where.port),
            },
        )
        configuration = k8s.Configuration()
        try:
            loader.load_and_set(configuration)
        except (ConfigException, OSError) as error:
            raise UnstartableError(
                f"KUBERNETES_CREDENTIALS: expected token and ca.crt in {where.credentials}, and"
                f" KUBERNETES_SERVICE_HOST; found: {error}. Give the deployer's pod its service"
                " account, or set DEPLOYER_BACKEND to another"
            ) from error
        self._client = k8s.ApiClient(configuration)

    async def stop(self) -> None:
        """Hang up; what was made stays."""
        if self._client is not None:
            await self._client.close()

    def healthy(self) -> str | None:
        """Answer None: an API server that is away is waited for, and no restart helps."""
        return None

    async def ensure(self, spec: GroupSpec) -> None:
        """Have the group's objects be as wanted, and it have runtimes or none.

        Raises:
            ConnectionError: the API server is away, or says no; the group may be half made.
        """
        before, since = self._settled.get(spec.name, (None, 0.0))
        if before == spec and self._clock() - since < self._cluster.rest_s:
            return
        self._settled.pop(spec.name, None)
        last: RefusedByClusterError | None = None
        for _ in range(_ATTEMPTS):
            try:
                await self._ensure(spec)
            except (_ConflictError, _AbsentError) as error:
                last = error
                continue
            self._settled[spec.name] = spec, self._clock()
            return
        raise RefusedByClusterError(
            f"{spec.name}: expected to bring its objects into step in {_ATTEMPTS} tries; found"
            f" of the last: {last}"
        )

    async def remove(self, group: str) -> None:
        """Delete the group's Deployment; the cluster removes what it owns.

        Raises:
            ConnectionError: the API server is away, or says no.
        """
        self._settled.pop(group, None)
        self._listed = None
        try:
            await self._ask(
                k8s.AppsV1Api(self._api).delete_namespaced_deployment(
                    workload(group), self._pods.namespace, propagation_policy="Background"
                ),
                f"delete {workload(group)}",
            )
        except _AbsentError:
            return
        log.info("group.removed", group=group)

    async def groups(self) -> dict[str, tuple[Member, ...]]:
        """Return every group that there is a Deployment of, with its pods, the oldest first.

        Raises:
            ConnectionError: the API server is away, or says no.
        """
        if self._listed is not None:
            since, listed = self._listed
            if self._clock() - since < self._cluster.fresh_s:
                return listed
        namespace = self._pods.namespace
        made = await self._ask(
            k8s.AppsV1Api(self._api).list_namespaced_deployment(
                namespace, label_selector=_OURS
            ),
            "list deployments",
        )
        pods = await self._ask(
            k8s.CoreV1Api(self._api).list_namespaced_pod(namespace, label_selector=_OURS),
            "list pods",
        )
        self._notice(made.items)
        found: dict[str, list[Member]] = {
            group: [] for each in made.items if (group := group_of(each.metadata)) is not None
        }
        for pod in sorted(pods.items, key=age):
            group, member = group_of(pod.metadata), member_of(pod)
            if group in found and member is not None:
                found[group].append(member)
        listed = {group: tuple(members) for group, members in found.items()}
        self._listed = self._clock(), listed
        return listed

    def entry(self, group: str) -> str:
        """Return the Service's address in the cluster's DNS."""
        return f"tcp:{workload(group)}.{self._pods.namespace}.svc:{DATA_PORT}"

    @property
    def _api(self) -> k8s.ApiClient:
        if self._client is None:
            raise ConnectionError("kubernetes: expected to be started; found it is not yet")
        return self._client

    def _notice(self, made: Sequence[k8s.V1Deployment]) -> None:
        """Have those looked at again that are there no more, or are none against our word."""
        up = {group_of(each.metadata): each.spec.replicas > 0 for each in made}
        for group, (spec, _) in list(self._settled.items()):
            if up.get(group) is not (spec.replicas > 0):
                del self._settled[group]

    async def _ensure(self, spec: GroupSpec) -> None:
        self._listed = None
        owner = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": workload(spec.name),
            "uid": await self._ensure_deployment(spec),
        }
        await self._ensure_service(service(spec, self._pods, owner))
        await self._ensure_autoscaler(autoscaler(spec, self._pods, owner))

    async def _ensure_deployment(self, spec: GroupSpec) -> str:
        """Return the uid of the group's Deployment, as it is once it is as wanted."""
        api, wanted = k8s.AppsV1Api(self._api), deployment(spec, self._pods)
        name, namespace = workload(spec.name), self._pods.namespace
        try:
            found = await self._ask(
                api.read_namespaced_deployment(name, namespace), f"read {name}"
            )
        except _AbsentError:
            # At none, and then scaled like any other: so it never starts what nobody wants.
            body = {**wanted, "spec": {**cast("Manifest", wanted["spec"]), "replicas": 0}}
            found = await self._ask(
                api.create_namespaced_deployment(namespace, cast("k8s.V1Deployment", body)),
                f"create {name}",
            )
            log.info("group.made", group=spec.name)
        if _differs(found.metadata, wanted):
            found = await self._ask(
                api.patch_namespaced_deployment(
                    name,
                    namespace,
                    wanted,
                    _content_type=_MERGE,  # type: ignore[call-arg]  # its stubs lack it
                ),
                f"patch {name}",
            )
        await self._scale(found, spec.replicas)
        return str(found.metadata.uid)

    async def _scale(self, found: k8s.V1Deployment, wanted: int) -> None:
        """Take a group from none to its least, or to none; no other number is ours."""
        there = found.spec.replicas
        if (there > 0) is (wanted > 0):
            return
        name = found.metadata.name
        body = {
            "metadata": {"resourceVersion": found.metadata.resource_version},
            "spec": {"replicas": wanted},
        }
        await self._ask(
            k8s.AppsV1Api(self._api).patch_namespaced_deployment_scale(
                name,
                self._pods.namespace,
                body,
                _content_type=_MERGE,  # type: ignore[call-arg]  # its stubs lack it
            ),
            f"scale {name}",
        )
        log.info("group.scaled", workload=name, before=there, after=wanted)

    async def _ensure_service(self, wanted: Manifest) -> None:
        api, (name, namespace) = k8s.CoreV1Api(self._api), _named(wanted)
        try:
            found = await self._ask(
                api.read_namespaced_service(name, namespace), f"read service {name}"
            )
        except _AbsentError:
            await self._ask(
                api.create_namespaced_service(namespace, cast("k8s.V1Service", wanted)),
                f"create service {name}",
            )
            return
        if _differs(found.metadata, wanted):
            await self._ask(
                api.patch_namespaced_service(
                    name,
                    namespace,
                    wanted,
                    _content_type=_MERGE,  # type: ignore[call-arg]  # its stubs lack it
                ),
                f"patch service {name}",
            )

    async def _ensure_autoscaler(self, wanted: Manifest) -> None:
        api, (name, namespace) = k8s.AutoscalingV2Api(self._api), _named(wanted)
        try:
            found = await self._ask(
                api.read_namespaced_horizontal_pod_autoscaler(name, namespace),
                f"read autoscaler {name}",
            )
        except _AbsentError:
            body = cast("k8s.V2HorizontalPodAutoscaler", wanted)
            await self._ask(
                api.create_namespaced_horizontal_pod_autoscaler(namespace, body),
                f"create autoscaler {name}",
            )
            return
        if _differs(found.metadata, wanted):
            await self._ask(
                api.patch_namespaced_horizontal_pod_autoscaler(
                    name,
                    namespace,
                    wanted,
                    _content_type=_MERGE,  # type: ignore[call-arg]  # its stubs lack it
                ),
                f"patch autoscaler {name}",
            )

    async def _ask(self, call: Awaitable[T], what: str) -> T:
        """Return the API server's answer, in time, with its refusals in our words."""
        try:
            async with asyncio.timeout(self._cluster.timeout_s):
                return await call
        except k8s.ApiException as error:
            raise _meant(error, what) from error
        except (aiohttp.ClientError, TimeoutError, ConfigException) as error:
            raise ConnectionError(
                f"kubernetes: expected an answer to `{what}` within"
                f" {self._cluster.timeout_s:g} s; found {type(error).__name__}"
            ) from error


def _meant(error: k8s.ApiException, what: str) -> RefusedByClusterError:
    said = str(error.body or error.reason)[:400]
    advice = _ADVICE.get(error.status or 0, "")
    kind = _OF_OTHERS.get(error.status or 0, RefusedByClusterError)
    if kind is RefusedByClusterError:
        log.warning("kubernetes.refused", request=what, status=error.status, reason=said)
    return kind(f"kubernetes: expected 200 to `{what}`; found {error.status}: {said}{advice}")


def _named(manifest: Manifest) -> tuple[str, str]:
    metadata = cast("Mapping[str, str]", manifest["metadata"])
    return metadata["name"], metadata["namespace"]


def _differs(found: k8s.V1ObjectMeta, wanted: Manifest) -> bool:
    return (found.annotations or {}).get(DIGEST) != digest_of(wanted)
