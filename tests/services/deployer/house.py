"""Deployer, runtime and gateway as processes, among real Kafka, Postgres and S3.

The test stands in for the registry, which would approve versions, and types `gyral`.
"""

import asyncio
import io
import json
import os
import secrets
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import onnx
from aiokafka import AIOKafkaProducer
from onnx import ModelProto

from gyral.client import commandline
from gyral.contracts.access import Scope
from gyral.contracts.data import StreamDeclared
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.specs.stream import StreamSpec
from gyral.contracts.training import Artifacts, Cause
from gyral.contracts.versions import Check, ModelDeclared, VersionApproved
from gyral.kit.blobs import Blobs
from gyral.testkit.backends import Backends, fresh_bucket, fresh_schema
from gyral.testkit.events import send
from gyral.testkit.keys import an_access_key
from gyral.testkit.onnx_models import Logistic, VersionFiles
from gyral.testkit.processes import ServiceProcess, free_port
from tests.services.registry.builders import END

GOLDEN = ({"x": 1.0}, {"x": -1.0})
_PARTS = ("onnx", "manifest", "golden")
LIVE = "/v2/health/live"
"""Ready it is only when the runtimes of all routes are there, of other tests too."""


def a_version(bias: float) -> Logistic:
    """Return a model of one number."""
    return Logistic({"x": 0.5}, bias=bias)


@dataclass
class House:
    """The processes and what they share; several models may live in it."""

    stack: Backends
    blobs: Blobs
    folder: Path
    database: str
    kafka_is_away: bool = False
    tag: str = field(default_factory=lambda: secrets.token_hex(4))

    def __post_init__(self) -> None:
        self.service_key = secrets.token_hex(16)
        self.key, self.issued = an_access_key(
            Scope.OPERATE, Scope.READ, Scope.INFER, name="ann"
        )
        self.env = self.stack.service_env(database=self.database, bucket=self.blobs.bucket)
        self.env["SERVICE_KEY"] = self.service_key
        data = str(self.folder / "r.sock")
        self.runtime = self._process("runtime", {**self.env, "RUNTIME_LISTEN": f"unix:{data}"})
        fixed = {"RUNTIME_URL": self.runtime.url, "RUNTIME_SOCKET": data}
        told = {**fixed, "DEPLOYER_RECONCILE_S": "0.2"}
        self.deployer = self._process("deployer", {**self.env, **told})
        self.gateway = self._process("gateway", self.env)

    def _process(self, name: str, env: dict[str, str]) -> ServiceProcess:
        own = {
            "STATE_DIR": str(self.folder / name),
            "INSTANCE_ID": f"{name}-{self.tag}",
        }
        return ServiceProcess(f"gyral.{name}", {**env, **own}, self.folder / f"{name}.log")

    def start(self) -> None:
        """Start all three."""
        self.publish(self.issued)
        self.runtime.start()
        self.deployer.start()
        self.gateway.start(health=LIVE)

    def stop(self) -> None:
        """End what still runs."""
        for process in (self.gateway, self.deployer, self.runtime):
            process.stop()

    def restart_gateway(self, *, kafka: bool) -> None:
        """Kill the gateway and start it with Kafka within reach, or not."""
        self.gateway.kill()
        brokers = self.stack.kafka_brokers if kafka else f"127.0.0.1:{free_port()}"
        self.gateway.env = {**self.gateway.env, "KAFKA_BROKERS": brokers}
        self.gateway.start(health=LIVE)

    def publish(self, *events) -> None:
        """Put events on their topics."""
        asyncio.run(self.send_all(*events))

    async def send_all(self, *events) -> None:
        """Put events on their topics."""
        async with AIOKafkaProducer(bootstrap_servers=self.stack.kafka_brokers) as producer:
            for event in events:
                await send(producer, event)

    def model(self, *, serving: dict[str, Any] | None = None, **rollout) -> "Served":
        """Declare a model of one number on a wall clock, with this rollout."""
        name = f"m-{secrets.token_hex(4)}"
        stream = StreamSpec.model_validate(
            {
                "apiVersion": "gyral/v1",
                "kind": "Stream",
                "metadata": {"name": name},
                "spec": {
                    "key": "id",
                    "event_time": "at",
                    "fields": {
                        "id": {"type": "string"},
                        "at": {"type": "timestamp"},
                        "x": {"type": "number"},
                        "y": {"type": "number", "nullable": True},
                    },
                },
            }
        )
        spec = ModelSpec.model_validate(
            {
                "apiVersion": "gyral/v1",
                "kind": "Model",
                "metadata": {"name": name},
                "spec": {
                    "task": "binary-classification",
                    "features": {"stream": name, "fields": ["x"]},
                    "label": {"stream": name, "key": "id", "positive": "y > 0"},
                    "train": {"trainer": "sklearn.hist_gradient_boosting"},
                    "rollout": rollout,
                    "serving": serving or {},
                },
            }
        )
        self.publish(
            StreamDeclared(name=name, generation=1, spec=stream),
            ModelDeclared(name=name, generation=1, spec=spec),
        )
        return Served(self, name, spec=spec)

    @property
    def addresses(self) -> dict[str, str]:
        """What makes `gyral` come here."""
        return {
            "GYRAL_API_KEY": self.key,
            "GYRAL_DEPLOYER_URL": self.deployer.url,
            "GYRAL_GATEWAY_URL": self.gateway.url,
            "GYRAL_HOME": str(self.folder / "nothing"),
        }

    def type(self, *words: str) -> tuple[int, str]:
        """Type a command of `gyral`; return its exit status and all it said."""
        said = io.StringIO()
        with (
            patch.dict(os.environ, self.addresses),
            redirect_stdout(said),
            redirect_stderr(said),
        ):
            status = commandline.run(words)
        return status, said.getvalue()


@dataclass
class Served:
    """One model of the house."""

    house: House
    name: str
    versions: int = 0
    spec: ModelSpec | None = None
    _client: httpx.Client = field(default_factory=httpx.Client)

    def approve(self, files: VersionFiles, *, against: int | None = None) -> int:
        """Have the next version approved, as judged against another; return its number."""
        self.versions += 1
        asyncio.run(self._approve(files, self.versions, against))
        return self.versions

    async def _approve(self, files: VersionFiles, version: int, against: int | None) -> None:
        refs = {
            part: await self.house.blobs.put_bytes(
                f"{self.name}/{version}/{part}", getattr(files, part)
            )
            for part in _PARTS
        }
        await self.house.send_all(
            VersionApproved(
                model=self.name,
                version=version,
                run_id=str(uuid.uuid4()),
                request_id=str(uuid.uuid4()),
                cause=Cause.CUSUM,
                as_of=END,
                artifacts=Artifacts(**refs, profile=refs["golden"], evaluation=refs["golden"]),
                bootstrap=against is None,
                champion_version=against,
                spec_generation=1,
                checks=(Check(name="schema", passed=True),),
            )
        )

    def live(self, bias: float = 0.1) -> None:
        """Have the first version serve, and return once the gateway answers by it."""
        self.approve(a_version(bias).files(GOLDEN, model=self.name))
        self.reach(1, "completed")
        self.until_answered_by(1)

    def show(self, version: int) -> dict[str, Any]:
        """Return what `gyral rollout show` says of a version."""
        status, said = self.house.type("rollout", "show", self.name, str(version), "-o", "json")
        assert status == 0, said
        shown: dict[str, Any] = json.loads(said)[0]
        return shown

    def completed(self) -> None:
        """Have a second version answer alone, with the first kept warm beside it."""
        self.live()
        self.approve(a_version(0.2).files(GOLDEN, model=self.name), against=1)
        self.reach(2, "completed", asking=0.5)
        self.until_answered_by(2)

    def stage(self, version: int) -> str | None:
        """Return how far a version is, or None while nobody knows it."""
        status, said = self.house.type("rollout", "show", self.name, str(version), "-o", "json")
        return json.loads(said)[0]["stage"] if status == 0 else None

    def plant(self, spoil: Callable[[ModelProto], None]) -> int:
        """Have the next version approved with its model spoilt, its manifest true to it."""
        sound = a_version(0.2)
        model = onnx.load_model_from_string(sound.onnx())
        spoil(model)
        files = sound.files(GOLDEN, model=self.name, onnx=model.SerializeToString())
        return self.approve(files, against=1)

    def reach(self, version: int, *stages: str, asking: float | None = None) -> dict[str, Any]:
        """Return how a version stands once it is in one of these stages.

        Args:
            version: its number.
            stages: where it is to get; ending elsewhere fails.
            asking: what the model is asked about meanwhile, again and again.
        """
        late = deadline_in(60)
        while (stage := self.stage(version)) not in stages:
            assert not late(), f"{stage}: {self.house.deployer.tail()}"
            for _ in range(0 if asking is None else 50):
                self.ask(x=asking or 0.0)
        return self.show(version)

    def ask(self, *, x: float = 0.5, version: int | None = None) -> httpx.Response:
        """Ask about one row."""
        path = "" if version is None else f"/versions/{version}"
        body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [x]}]}
        return self._client.post(
            f"{self.house.gateway.url}/v2/models/{self.name}{path}/infer",
            json=body,
            headers={"authorization": f"Bearer {self.house.key}"},
            timeout=30,
        )

    def answered_by(self) -> int:
        """Return the version that gives the next answer; a starting gateway is waited for."""
        late = deadline_in(30)
        while (answer := self.ask()).status_code == 503:
            assert not late(), self.house.gateway.tail()
        assert answer.status_code == 200, answer.text
        return int(answer.json()["model_version"])

    def until_answered_by(self, version: int) -> None:
        """Return once a version answers."""
        late = deadline_in(30)
        while (answer := self.ask()).status_code != 200 or (
            answer.json()["model_version"] != str(version)
        ):
            assert not late(), f"{answer.text}: {self.house.gateway.tail()}"


@contextmanager
def a_house(stack: Backends, kind: type[House] = House) -> Iterator[House]:
    """Yield a house over stores of its own, its processes running."""
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="dp-")))
        runner = undo.enter_context(asyncio.Runner())
        schema, bucket = fresh_schema(stack), fresh_bucket(stack.s3())
        database = runner.run(schema.__aenter__())
        undo.callback(lambda: runner.run(schema.__aexit__(None, None, None)))
        blobs = runner.run(bucket.__aenter__())
        undo.callback(lambda: runner.run(bucket.__aexit__(None, None, None)))
        house = kind(stack, blobs, folder, database)
        undo.callback(house.stop)
        house.start()
        yield house


def deadline_in(seconds: float) -> Callable[[], bool]:
    """Return a question whether so much time has passed."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end
