"""What a group of runtimes is in a cluster: a Deployment, with what belongs beside it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from gyral.deployer.engine.backend import SHARED, Flavour, GroupSpec
from gyral.kit.telemetry import nameless

Json: TypeAlias = str | int | float | bool | Sequence["Json"] | Mapping[str, "Json"] | None
Manifest: TypeAlias = dict[str, Json]

CONTROL_PORT, DATA_PORT = 8108, 8109
GROUP = "gyral.dev/group"
"""Annotation: the group's name, whole."""
DIGEST = "gyral.dev/wanted-sha256"
"""Annotation: what the deployer wanted when it last wrote the object."""
RUNTIMES = {
    "app.kubernetes.io/name": "gyral-runtime",
    "app.kubernetes.io/part-of": "gyral",
    "app.kubernetes.io/managed-by": "gyral-deployer",
}
"""Labels of every object that the deployer makes, and of pods: NetworkPolicies go by them."""
FLAVOUR = "RUNTIME_FLAVOUR"
METRIC = "gyral_queue_seconds"
"""What the autoscaler asks for, as infra/kubernetes/prometheus-adapter.yaml makes it."""
EXTERNALS, S3_SECRET, KEY_SECRET = "gyral-externals", "gyral-s3", "gyral-keys"
"""A ConfigMap and two Secrets that pods refer to; infra/kubernetes says what is in them."""
_DRAIN_S = 20
"""How long a pod still answers once it is to end: routes and gateways follow meanwhile."""
_STOP_S = 20
_DNS_LABEL = 63


@dataclass(frozen=True, slots=True)
class Pods:
    """How every runtime's pod is made, whatever its group."""

    namespace: str
    image: str
    torch_image: str
    """Of groups whose flavour is torch."""
    cpu: str
    memory: str
    settled_s: int
    """How long a new pod must have answered before another may end for it."""
    knobs: Mapping[str, str] = field(default_factory=dict)
    """Settings of runtimes; what is not among them follows from the pod's memory."""


def workload(group: str) -> str:
    """Return the name that a group's objects have: a DNS label, and another for each group."""
    name = f"runtime-{group}"
    if len(name) <= _DNS_LABEL and not name.endswith("-"):
        return name
    digest = hashlib.sha256(group.encode()).hexdigest()[:12]
    return f"runtimes-{group[:40].rstrip('-')}-{digest}"  # as no name that is whole begins


def deployment(spec: GroupSpec, pods: Pods) -> Manifest:
    """Return a group's Deployment, without the number of its replicas: others have a say."""
    labels = _labels(spec.name)
    return _stamped(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _metadata(spec.name, pods),
            "spec": {
                "selector": {"matchLabels": labels},
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
                },
                "minReadySeconds": pods.settled_s,
                "revisionHistoryLimit": 2,
                "progressDeadlineSeconds": 600,
                "template": {
                    "metadata": {"labels": labels, "annotations": {GROUP: spec.name}},
                    "spec": _pod(spec, pods),
                },
            },
        }
    )


def service(spec: GroupSpec, pods: Pods, owner: Mapping[str, str]) -> Manifest:
    """Return the Service whose name leads to any pod of the group that is ready."""
    return _stamped(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**_metadata(spec.name, pods), "ownerReferences": [owner]},
            "spec": {
                "type": "ClusterIP",
                "selector": _labels(spec.name),
                "ports": [
                    {"name": "data", "port": DATA_PORT, "targetPort": "data"},
                ],
            },
        }
    )


def autoscaler(spec: GroupSpec, pods: Pods, owner: Mapping[str, str]) -> Manifest:
    """Return what moves a group between its least, or one, and its most, by queue time."""
    metric: Manifest = {"name": METRIC}
    if spec.name != SHARED:
        metric["selector"] = {"matchLabels": {"model_sha256": nameless(spec.name)}}
    least = max(1, spec.replicas)
    return _stamped(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {**_metadata(spec.name, pods), "ownerReferences": [owner]},
            "spec": {
                "scaleTargetRef": {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": workload(spec.name),
                },
                "minReplicas": least,
                "maxReplicas": max(least, spec.most),
                "metrics": [
                    {
                        "type": "External",
                        "external": {
                            "metric": metric,
                            "target": {
                                "type": "Value",
                                "value": f"{max(1, round(spec.queue_s * 1000))}m",
                            },
                        },
                    }
                ],
            },
        }
    )


def digest_of(manifest: Manifest) -> str:
    """Return what an object must bear that was written as this one."""
    metadata = cast("Mapping[str, Mapping[str, str]]", manifest["metadata"])
    return metadata["annotations"][DIGEST]


def _stamped(manifest: Manifest) -> Manifest:
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    metadata = cast("Manifest", manifest["metadata"])
    annotations = {
        **cast("Manifest", metadata["annotations"]),
        DIGEST: hashlib.sha256(text.encode()).hexdigest(),
    }
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def _labels(group: str) -> dict[str, str]:
    return {**RUNTIMES, "app.kubernetes.io/instance": workload(group)}


def _metadata(group: str, pods: Pods) -> dict[str, Json]:
    return {
        "name": workload(group),
        "namespace": pods.namespace,
        "labels": _labels(group),
        "annotations": {GROUP: group},
    }


def _pod(spec: GroupSpec, pods: Pods) -> Manifest:
    """Return what may run and nothing more, as docker-compose.yml hardens it."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _DRAIN_S + _STOP_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _labels(spec.name)},
            }
        ],
        "containers": [_container(spec, pods)],
        "volumes": [
            {"name": "state", "emptyDir": {"sizeLimit": "8Gi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
            {
                "name": "keys",
                "secret": {
                    "secretName": KEY_SECRET,
                    "defaultMode": 0o440,
                    "items": [{"key": "service.key", "path": "service.key"}],
                },
            },
        ],
    }


def _container(spec: GroupSpec, pods: Pods) -> Manifest:
    return {
        "name": "runtime",
        "image": pods.torch_image if spec.flavour is Flavour.TORCH else pods.image,
        "command": ["python", "-m", "gyral.runtime"],
        "env": _environment(spec.flavour, pods),
        "ports": [
            {"name": "control", "containerPort": CONTROL_PORT},
            {"name": "data", "containerPort": DATA_PORT},
        ],
        "resources": {
            "requests": {"cpu": pods.cpu, "memory": pods.memory},
            "limits": {"memory": pods.memory},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": _probe("/health/ready", period_s=1, failures=300),
        "readinessProbe": _probe("/health/ready", period_s=2, failures=2),
        "livenessProbe": _probe("/health/live", period_s=5, failures=6),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_DRAIN_S)]}}},
        "volumeMounts": [
            {"name": "state", "mountPath": "/var/lib/gyral"},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - of the container alone
            {"name": "keys", "mountPath": "/run/secrets", "readOnly": True},
        ],
    }


def _bounds(memory: str) -> dict[str, str]:
    """Return what a runtime may take so that its pod is not ended for it.

    Versions in memory have a quarter: a process that computes takes more than it holds. A
    trial's bound is of addresses, of which torch alone takes 3 GB; of memory it takes less.
    """
    size = int(memory[:-2]) << (30 if memory.endswith("Gi") else 20)
    return {
        "RUNTIME_MEMORY_BYTES": str(max(size // 4, 1 << 20)),
        "RUNTIME_TRIAL_MEMORY_BYTES": str(max(size, 256 << 20)),
    }


def _environment(flavour: Flavour, pods: Pods) -> list[Manifest]:
    """Return a runtime's settings; secrets and addresses are referred to."""
    given: dict[str, Json] = {
        name: {"configMapKeyRef": {"name": EXTERNALS, "key": name}}
        for name in ("S3_ENDPOINT", "S3_BUCKET", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    }
    given |= {
        name: {"secretKeyRef": {"name": S3_SECRET, "key": name}}
        for name in ("S3_ACCESS_KEY", "S3_SECRET_KEY")
    }
    knobs: dict[str, Json] = {**_bounds(pods.memory), **pods.knobs}
    return [
        {"name": "HTTP_HOST", "value": "0.0.0.0"},  # noqa: S104 - inside a pod
        {"name": "HTTP_PORT", "value": str(CONTROL_PORT)},
        {"name": "RUNTIME_LISTEN", "value": f"tcp:0.0.0.0:{DATA_PORT}"},
        {"name": "SERVICE_KEY_FILE", "value": "/run/secrets/service.key"},
        {"name": "STATE_DIR", "value": "/var/lib/gyral/runtime"},
        {"name": "OMP_NUM_THREADS", "value": "1"},
        {"name": FLAVOUR, "value": flavour},
        *({"name": name, "value": value} for name, value in sorted(knobs.items())),
        *({"name": name, "valueFrom": source} for name, source in given.items()),
    ]


def _probe(path: str, *, period_s: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "control"},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
