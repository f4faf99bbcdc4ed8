"""Writes infra/kubernetes/services.yaml: services in a cluster, as in docker-compose.yml.

What does not follow from it (namespaces, rights, who may reach whom) is written by hand beside.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from gyral.local.interpolation import interpolate
from gyral.testkit.openapi import ROOT

FOLDER = ROOT / "infra" / "kubernetes"
NAMESPACE, RUNTIMES = "gyral", "gyral-runtimes"
SERVICES = (
    "registry",
    "ingestion",
    "validation",
    "trainer",
    "deployer",
    "gateway",
    "monitor",
)
"""All but the runtime, which the deployer makes."""
JOB = "provision"
EXTERNALS, S3_SECRET, KEY_SECRET = "gyral-externals", "gyral-s3", "gyral-keys"

Manifest = dict[str, Any]
_GIVEN = ("KAFKA_BROKERS", "S3_ENDPOINT", "S3_BUCKET", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Where Kafka, the object store and traces are: keys of the ConfigMap."""
_STATE, _TMP, _KEYS = "/var/lib/gyral", "/tmp", "/run/secrets"  # noqa: S108 - of a container
_DRAIN_S = 5
_SIZES: Mapping[str, tuple[str, str]] = {
    "trainer": ("2", "8Gi"),
    "validation": ("1", "4Gi"),
    "ingestion": ("500m", "1Gi"),
    "gateway": ("1", "1Gi"),
    "monitor": ("500m", "2Gi"),
    "deployer": ("250m", "1Gi"),
    "registry": ("250m", "1Gi"),
    JOB: ("100m", "512Mi"),
}
"""CPU that is promised, memory that is promised and at most had; a place to begin."""
_REPLICAS = {"gateway": 2}
_IN_CLUSTER: Mapping[str, Mapping[str, str | None]] = {
    "deployer": {
        "RUNTIME_URL": None,
        "RUNTIME_SOCKET": None,
        "DEPLOYER_SOCKETS": None,
        "DEPLOYER_BACKEND": "kubernetes",
        "KUBERNETES_NAMESPACE": RUNTIMES,
    },
    "gateway": {"SERVICE_KEY_FILE": f"{_KEYS}/service.key"},
}
"""What differs where runtimes are pods: None leaves a setting out."""
_HEADER = "# Generated from docker-compose.yml by `make contracts`; a test keeps it fresh.\n"


class _Entry(BaseModel):
    """What is read of an entry of docker-compose.yml."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    image: str
    command: list[str]
    environment: dict[str, str]
    secrets: list[str] = []
    volumes: list[str] = []
    stop_grace_period: str = "20s"


class _Instance(BaseModel):
    secrets: list[str]


class _File(BaseModel):
    services: dict[str, Manifest]
    instance: _Instance = Field(alias="x-instance")


@dataclass(frozen=True, slots=True)
class _Component:
    """One entry, and what its settings come from."""

    name: str
    entry: _Entry
    secrets: frozenset[str]
    """Variables of docker-compose.yml that hold secrets."""

    def environment(self) -> list[Manifest]:
        """Return every setting: by value, from the ConfigMap, or from a Secret."""
        changed = _IN_CLUSTER.get(self.name, {})
        found = [
            self._setting(name, value)
            for name, value in self.entry.environment.items()
            if name not in changed
        ]
        found += [{"name": name, "value": value} for name, value in changed.items() if value]
        if self.name == "deployer":
            found += [
                _from("configMap", EXTERNALS, name)
                for name in ("KUBERNETES_IMAGE", "KUBERNETES_TORCH_IMAGE")
            ]
        if self.name != JOB:
            pod = {"fieldRef": {"fieldPath": "metadata.name"}}
            found.append({"name": "INSTANCE_ID", "valueFrom": pod})
        return found

    def _setting(self, name: str, value: str) -> Manifest:
        if self.secrets & set(re.findall(r"\$\{(\w+)", value)):
            secret = S3_SECRET if name.startswith("S3_") else f"gyral-{self.name}"
            return _from("secret", secret, name)
        if name in _GIVEN:
            return _from("configMap", EXTERNALS, name)
        return {"name": name, "value": interpolate(value, {})}

    @property
    def key_files(self) -> list[str]:
        """Return the files of keys that it reads."""
        ends = [
            each["value"].removeprefix(f"{_KEYS}/")
            for each in self.environment()
            if each["name"].endswith("_FILE")
        ]
        return sorted(ends)

    @property
    def keeps(self) -> bool:
        """True when it has a folder that must outlive it."""
        return any(each.endswith(f":{_STATE}") for each in self.entry.volumes)

    def ports(self) -> dict[str, int]:
        """Return its ports by their names."""
        told = {each["name"]: each.get("value", "") for each in self.environment()}
        found = {"http": told.get("HTTP_PORT"), "grpc": told.get("GATEWAY_GRPC_PORT")}
        return {name: int(port) for name, port in found.items() if port}

    def pod(self) -> Manifest:
        """Return its pod, which may do nothing that it need not."""
        deploys = self.name == "deployer"
        account = {"serviceAccountName": "deployer"} if deploys else {}
        grace_s = int(self.entry.stop_grace_period.removesuffix("s"))
        return {
            **account,
            "automountServiceAccountToken": deploys,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": grace_s + _DRAIN_S,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [self._container()],
            "volumes": self._volumes(),
        }

    def _container(self) -> Manifest:
        cpu, memory = _SIZES[self.name]
        made: Manifest = {
            "name": self.name,
            "image": self.entry.image,
            "command": self.entry.command,
            "env": self.environment(),
            "resources": {
                "requests": {"cpu": cpu, "memory": memory},
                "limits": {"memory": memory},
            },
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": self._mounts(),
        }
        ports = self.ports()
        if ports:
            made["ports"] = [
                {"name": name, "containerPort": port} for name, port in ports.items()
            ]
            made["startupProbe"] = _probe("/health/ready", period_s=2, failures=150)
            made["readinessProbe"] = _probe("/health/ready", period_s=2, failures=3)
            made["livenessProbe"] = _probe("/health/live", period_s=5, failures=6)
            made["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", str(_DRAIN_S)]}}}
        return made

    def _mounts(self) -> list[Manifest]:
        mounts: list[Manifest] = [{"name": "tmp", "mountPath": _TMP}]
        if self.keeps:
            mounts.append({"name": "state", "mountPath": _STATE})
        if self.key_files:
            mounts.append({"name": "keys", "mountPath": _KEYS, "readOnly": True})
        return mounts

    def _volumes(self) -> list[Manifest]:
        volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}}]
        if self.key_files:
            items = [{"key": name, "path": name} for name in self.key_files]
            secret = {"secretName": KEY_SECRET, "defaultMode": 0o440, "items": items}
            volumes.append({"name": "keys", "secret": secret})
        return volumes


def manifests() -> Iterator[Manifest]:
    """Yield every object that follows from docker-compose.yml."""
    file = _File.model_validate(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))
    secrets = frozenset(file.instance.secrets)
    for name in (JOB, *SERVICES):
        component = _Component(name, _Entry.model_validate(file.services[name]), secrets)
        if name == JOB:
            yield _job(component)
        else:
            yield _service(component)
            yield _stateful_set(component)


def text() -> str:
    """Return the file as it is committed."""
    return _HEADER + yaml.safe_dump_all(manifests(), sort_keys=False, width=88)


def main() -> None:
    """Write the file into the checkout."""
    (FOLDER / "services.yaml").write_text(text(), encoding="utf-8")


def _job(component: _Component) -> Manifest:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(component.name),
        "spec": {
            "backoffLimit": 20,
            "ttlSecondsAfterFinished": 3600,
            "template": {
                "metadata": {"labels": _labels(component.name)},
                "spec": {"restartPolicy": "OnFailure", **component.pod()},
            },
        },
    }


def _service(component: _Component) -> Manifest:
    ports = [
        {"name": name, "port": port, "targetPort": name}
        for name, port in component.ports().items()
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(component.name),
        "spec": {"selector": _labels(component.name), "ports": ports},
    }


def _stateful_set(component: _Component) -> Manifest:
    claim = {
        "metadata": {"name": "state"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "10Gi"}},
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": _metadata(component.name),
        "spec": {
            "serviceName": component.name,
            "replicas": _REPLICAS.get(component.name, 1),
            "selector": {"matchLabels": _labels(component.name)},
            "template": {
                "metadata": {"labels": _labels(component.name)},
                "spec": component.pod(),
            },
            "volumeClaimTemplates": [claim] if component.keeps else [],
        },
    }


def _labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": f"gyral-{name}", "app.kubernetes.io/part-of": "gyral"}


def _metadata(name: str) -> Manifest:
    return {"name": name, "namespace": NAMESPACE, "labels": _labels(name)}


def _from(kind: str, source: str, name: str) -> Manifest:
    return {"name": name, "valueFrom": {f"{kind}KeyRef": {"name": source, "key": name}}}


def _probe(path: str, *, period_s: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


if __name__ == "__main__":
    main()
