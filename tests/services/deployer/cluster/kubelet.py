"""Controllers and kubelet: what Deployments want, pods are; and each pod is a real process."""

import asyncio
import copy
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from .objects import AUTOSCALER, DEPLOYMENT, POD, Object, Objects

_TEMPLATE = "pod-template-hash"
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - which in a pod is the pod's own address


@dataclass
class Volumes:
    """ConfigMaps and Secrets of the namespace, by name; and the images there are."""

    configs: dict[str, dict[str, str]]
    secrets: dict[str, dict[str, str]]
    images: set[str]


class NoSuchConfigError(LookupError):
    """A pod refers to what is not there: its container is not started."""


@dataclass
class Container:
    """The one container of a pod: its files, and its process while it runs."""

    pod: Object
    ip: str
    folder: Path
    volumes: Volumes
    process: "subprocess.Popen[bytes] | None" = None
    restarts: int = 0
    ready_at: float | None = None
    """When it began to answer; None while it does not."""

    def start(self) -> None:
        """Start it, with the folders of its volumes in the place of its mounts."""
        spec = self.pod["spec"]["containers"][0]
        if spec["image"] not in self.volumes.images:
            raise NoSuchConfigError(f"image {spec['image']}")
        mounts = {
            each["mountPath"]: self._mounted(each["name"]) for each in spec["volumeMounts"]
        }
        env = {each["name"]: self._value(each, mounts) for each in spec["env"]}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *spec["command"][1:]],
                env={"PATH": os.environ["PATH"], **env},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else "no log"

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def port(self, name: str) -> int:
        ports = self.pod["spec"]["containers"][0]["ports"]
        return int(next(each["containerPort"] for each in ports if each["name"] == name))

    def _mounted(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        volume = next(each for each in self.pod["spec"]["volumes"] if each["name"] == name)
        if "secret" in volume:
            secret = _found(self.volumes.secrets, volume["secret"]["secretName"])
            for item in volume["secret"]["items"]:
                (folder / item["path"]).write_text(_found(secret, item["key"]))
        return folder

    def _value(self, each: Object, mounts: dict[str, Path]) -> str:
        source = each.get("valueFrom")
        if source is not None:
            kind, kept = (
                ("configMapKeyRef", self.volumes.configs)
                if "configMapKeyRef" in source
                else ("secretKeyRef", self.volumes.secrets)
            )
            return str(_found(_found(kept, source[kind]["name"]), source[kind]["key"]))
        value: str = each["value"].replace(_EVERYWHERE, self.ip)
        for path, folder in mounts.items():
            if value.startswith(f"{path}/"):
                return f"{folder}{value.removeprefix(path)}"
        return value


def _found(kept: dict[str, Any], name: str) -> Any:
    if name not in kept:
        raise NoSuchConfigError(name)
    return kept[name]


@dataclass
class Kubelet:
    """Brings processes into step with objects, again after each change, and probes them."""

    objects: Objects
    volumes: Volumes
    folder: Path
    addresses: Iterator[str]
    drained: asyncio.Event = field(default_factory=asyncio.Event)
    """Pods that are to end do so once it is set: until then they answer, as in preStop."""
    containers: dict[str, Container] = field(default_factory=dict)
    passed_s: float = 0.0
    """The cluster's time; tests have it pass."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _seen: set[str] = field(default_factory=set)

    def wake(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            while True:
                self._changed.clear()
                self.objects.collect()
                self._deploy()
                self._end_pods()
                for name, pod in self._pods().items():
                    self._keep_running(name, pod)
                await asyncio.gather(
                    *(self._probe(client, each) for each in [*self.containers])
                )
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):  # the probes' period
                        await self._changed.wait()

    def stop(self) -> None:
        for container in self.containers.values():
            if container.process is not None:
                container.process.kill()
                container.process.wait()

    def kill(self, name: str) -> None:
        """Kill a pod's process; the kubelet starts its container anew."""
        process = self.containers[name].process
        assert process is not None
        process.send_signal(signal.SIGKILL)

    def at(self, passed_s: float) -> None:
        """Have it be so late, and the controllers look at once."""
        self.passed_s = passed_s
        self._deploy()

    def autoscale(self, namespace: str, name: str, wanted: int) -> None:
        """Do as the autoscaler does whose metric asks for so many; of none it leaves none."""
        limits = self.objects.get(AUTOSCALER, namespace, name)["spec"]
        now = self.objects.get(DEPLOYMENT, namespace, name)["spec"]["replicas"]
        if now > 0:
            replicas = min(max(wanted, limits["minReplicas"]), limits["maxReplicas"])
            self.objects.scale(namespace, name, {"spec": {"replicas": replicas}})

    def _pods(self) -> dict[str, Object]:
        kept = self.objects.kept.items()
        return {name: pod for (kind, _, name), pod in kept if kind is POD}

    def _deploy(self) -> None:
        """Have as many pods of a Deployment's template as it wants; older templates go last."""
        for (kind, namespace, name), each in list(self.objects.kept.items()):
            if kind is not DEPLOYMENT:
                continue
            template = copy.deepcopy(each["spec"]["template"])
            digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[
                :8
            ]
            owned = [
                pod
                for pod in self._pods().values()
                if pod["metadata"]["ownerReferences"][0]["uid"] == each["metadata"]["uid"]
                and "deletionTimestamp" not in pod["metadata"]
            ]
            current = [pod for pod in owned if pod["metadata"]["labels"][_TEMPLATE] == digest]
            wanted = each["spec"]["replicas"]
            for _ in range(wanted - len(current)):
                self._make(namespace, name, each, template, digest)
            stale = [pod for pod in owned if pod not in current]
            spare = sorted(current, key=_worth)[: max(0, len(current) - wanted)]
            least_s = each["spec"].get("minReadySeconds", 0)
            if len([pod for pod in current if self._settled(pod, least_s)]) >= wanted:
                spare += stale
            for pod in spare:
                self.objects.delete(POD, namespace, pod["metadata"]["name"])

    def _settled(self, pod: Object, least_s: float) -> bool:
        container = self.containers.get(pod["metadata"]["name"])
        since = container.ready_at if container is not None else None
        return since is not None and self.passed_s - since >= least_s

    def _make(
        self, namespace: str, owner: str, of: Object, template: Object, digest: str
    ) -> None:
        number = next(
            n for n in range(1 << 30) if f"{owner[:40]}-{digest}-{n}" not in self._seen
        )
        name = f"{owner[:40]}-{digest}-{number}"
        self._seen.add(name)
        labels = {**template["metadata"]["labels"], _TEMPLATE: digest}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **template["metadata"],
                "name": name,
                "labels": labels,
                "ownerReferences": [
                    {
                        "apiVersion": "apps/v1",
                        "kind": "Deployment",
                        "name": owner,
                        "uid": of["metadata"]["uid"],
                    }
                ],
            },
            "spec": template["spec"],
        }
        self.objects.create(POD, namespace, body)
        self.objects.kept[POD, namespace, name]["status"] = {"phase": "Pending"}

    def _keep_running(self, name: str, pod: Object) -> None:
        container = self.containers.get(name)
        if container is None:
            folder = self.folder / name
            folder.mkdir()
            container = Container(pod, next(self.addresses), folder, self.volumes)
            self.containers[name] = container
        if container.runs or "deletionTimestamp" in pod["metadata"]:
            return
        container.restarts += container.process is not None
        namespace = pod["metadata"]["namespace"]
        try:
            container.start()
        except NoSuchConfigError as error:
            waiting = {"reason": "CreateContainerConfigError", "message": str(error)}
            status = {"name": "runtime", "ready": False, "restartCount": 0, "image": ""}
            status |= {"imageID": "", "state": {"waiting": waiting}}
            self.objects.report(namespace, name, containerStatuses=[status])
            return
        self.objects.report(namespace, name, phase="Running", podIP=container.ip)

    async def _probe(self, client: httpx.AsyncClient, name: str) -> None:
        container = self.containers[name]
        probe = container.pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]
        ready = False
        if container.runs:
            url = f"http://{container.ip}:{container.port(probe['port'])}{probe['path']}"
            with suppress(httpx.TransportError):
                ready = (await client.get(url)).is_success
        if not ready:
            container.ready_at = None
        elif container.ready_at is None:
            container.ready_at = self.passed_s
        namespace = container.pod["metadata"]["namespace"]
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        self.objects.report(namespace, name, conditions=[condition])

    def _end_pods(self) -> None:
        """End the processes of pods that are to go, and forget them once they have ended."""
        for name, pod in self._pods().items():
            if "deletionTimestamp" not in pod["metadata"] or not self.drained.is_set():
                continue
            container = self.containers.get(name)
            if container is not None and container.runs:
                assert container.process is not None
                container.process.terminate()
            else:
                self.containers.pop(name, None)
                shutil.rmtree(self.folder / name, ignore_errors=True)
                self.objects.drop(POD, pod["metadata"]["namespace"], name)


def _ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _worth(pod: Object) -> tuple[bool, float]:
    """Who goes first: what is not ready, then what came last."""
    age = -int(pod["metadata"]["resourceVersion"])
    return _ready(pod), age
