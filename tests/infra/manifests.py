"""Everything that infra/kubernetes holds, and what the deployer makes beside it."""

from pathlib import Path
from typing import Any

import yaml

from gyral.deployer.engine import workloads
from gyral.deployer.engine.backend import GroupSpec
from gyral.deployer.engine.workloads import Pods

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "kubernetes"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS = [
    each
    for name in KUSTOMIZATION["resources"]
    for each in yaml.safe_load_all((FOLDER / name).read_text())
]
RUNTIME_PODS = Pods(
    "gyral-runtimes", "gyral:0.1.0", "gyral:0.1.0", cpu="1", memory="2Gi", settled_s=90
)
OWNER = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "runtime-m", "uid": "u"}
GROUP = GroupSpec("m", 1, most=3)
MADE: list[Any] = [
    workloads.deployment(GROUP, RUNTIME_PODS),
    workloads.service(GROUP, RUNTIME_PODS, OWNER),
    workloads.autoscaler(GROUP, RUNTIME_PODS, OWNER),
]
ALL: list[Any] = [*OBJECTS, *MADE]
PODS: dict[str, Any] = {
    each["metadata"]["name"]: each
    for each in ALL
    if each["kind"] in ("StatefulSet", "Job", "Deployment")
}


def name_of(manifest):
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pod_of(name):
    return PODS[name]["spec"]["template"]


def container(name):
    [found] = pod_of(name)["spec"]["containers"]
    return found


def environment(name):
    return {each["name"]: each for each in container(name)["env"]}


def of_kind(kind, namespace=None):
    found = [each for each in OBJECTS if each["kind"] == kind]
    return [each for each in found if namespace in (None, each["metadata"].get("namespace"))]


def references(name):
    """Yield kind, source and key of everything that a pod's settings and files refer to."""
    for each in environment(name).values():
        for kind, source in each.get("valueFrom", {}).items():
            if kind != "fieldRef":
                yield kind.removesuffix("KeyRef"), source["name"], source["key"]
    for volume in pod_of(name)["spec"]["volumes"]:
        for item in volume.get("secret", {}).get("items", ()):
            yield "secret", volume["secret"]["secretName"], item["key"]


def namespace_of(name):
    return PODS[name]["metadata"]["namespace"]
