import asyncio
import hashlib
import json
import secrets
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.contracts.deployment import Datatype, Input, RouteChanged, Share
from gyral.contracts.evaluation import Cell
from gyral.contracts.inference import PredictionLogged, Role
from gyral.contracts.names import BlobRef
from gyral.kit import cloudevents
from gyral.testkit.backends import Backends, fresh_bucket
from gyral.testkit.events import a_delivery
from gyral.testkit.events import send as send_event
from gyral.testkit.onnx_models import Logistic, VersionFiles
from gyral.testkit.processes import ServiceProcess, free_port

TOPIC = PredictionLogged.topic
MARKER = "data.watermark.advanced.v1"
INPUTS = (
    Input(name="distance", datatype=Datatype.FP64, nullable=True),
    Input(name="hour", datatype=Datatype.INT64),
    Input(name="carrier", datatype=Datatype.BYTES, nullable=True),
    Input(name="wet", datatype=Datatype.BOOL),
    Input(name="wind", datatype=Datatype.FP32),
)
ROWS: tuple[dict[str, Cell], ...] = (
    {"distance": 0.5, "hour": 3, "carrier": "AA", "wet": True, "wind": 0.25},
    {"distance": None, "hour": -1, "carrier": "never seen", "wet": False, "wind": -1.5},
    {"distance": -2.0, "hour": 0, "carrier": None, "wet": True, "wind": 0.0},
)


def a_version(number: int) -> Logistic:
    """A model whose answers tell which version gave them."""
    weights = {"distance": 0.3, "hour": 0.1, "carrier": 0.2, "wet": 0.4, "wind": -0.1}
    return Logistic(weights, bias=number / 10, categories={"carrier": ("UA", "AA")})


def infer_body(rows, **more):
    """An Open Inference request for these rows."""
    tensors = [
        {
            "name": each.name,
            "shape": [len(rows)],
            "datatype": each.datatype.value,
            "data": [row[each.name] for row in rows],
        }
        for each in INPUTS
    ]
    for name, datatype in (("entity_key", "BYTES"), ("event_time", "INT64")):
        if name in more:
            cells = more.pop(name)
            tensors.append(
                {"name": name, "shape": [len(rows)], "datatype": datatype, "data": cells}
            )
    return {"inputs": tensors, **more}


def probabilities(answer) -> list[float]:
    """What an answer says of its rows."""
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    found: list[float] = outputs["probability"]
    return found


@dataclass
class Served:
    """A gateway and a runtime as processes, on real Kafka and S3."""

    stack: Backends
    folder: Path
    model: str = field(default_factory=lambda: f"t-{secrets.token_hex(6)}")
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    reader: str = field(default_factory=lambda: secrets.token_hex(16))
    sender: str = field(default_factory=lambda: secrets.token_hex(16))
    admin: str = field(default_factory=lambda: secrets.token_hex(16))
    operator: str = field(default_factory=lambda: secrets.token_hex(16))
    epoch: int = 0
    replicas: tuple[str, ...] = ()
    """Addresses of runtimes that routes name beside the first."""
    shas: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.service_key = secrets.token_hex(16)
        self.bucket = f"test-{secrets.token_hex(6)}"
        self.runtime = self.another_runtime("r")
        self.rpc_port = free_port()
        self.gateway = self.another_gateway(
            "gateway", self.stack.kafka_brokers, GATEWAY_GRPC_PORT=str(self.rpc_port)
        )

    def another_runtime(self, name: str) -> ServiceProcess:
        s3 = self.stack.s3(self.bucket)
        return ServiceProcess(
            "gyral.runtime",
            {
                "STATE_DIR": str(self.folder / f"runtime-{name}"),
                "RUNTIME_LISTEN": f"unix:{self.folder / name}.sock",
                "SERVICE_KEY": self.service_key,
                "S3_ENDPOINT": s3.s3_endpoint,
                "S3_ACCESS_KEY": s3.s3_access_key,
                "S3_SECRET_KEY": s3.s3_secret_key.get_secret_value(),
                "S3_BUCKET": self.bucket,
            },
            self.folder / f"runtime-{name}.log",
        )

    def another_gateway(self, name: str, brokers: str, **env: str) -> ServiceProcess:
        return ServiceProcess(
            "gyral.gateway",
            {"STATE_DIR": str(self.folder / name), "KAFKA_BROKERS": brokers, **env},
            self.folder / f"{name}.log",
        )

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def infer(self, body, *, path="", headers=None, gateway=None) -> httpx.Response:
        where = f"{(gateway or self.gateway).url}/v2/models/{self.model}{path}/infer"
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(
            where, content=content, headers={**self.headers, **(headers or {})}, timeout=30
        )

    def mark(self, event_time: str) -> None:
        answer = httpx.post(
            f"{self.gateway.url}/v1/models/{self.model}/watermark",
            json={"event_time": event_time},
            headers={"authorization": f"Bearer {self.sender}"},
            timeout=30,
        )
        assert answer.status_code == 202, answer.text

    def follow(self, *, event_clock: bool = False, **weights) -> None:
        """Publish a route such as v1=90, v2=10, v3="shadow"; wait until it is followed."""
        self.epoch += 1
        route = self.route(event_clock=event_clock, **weights)
        asyncio.run(self.publish(route))
        answer = httpx.get(
            f"{self.gateway.url}/v1/models/{self.model}/route",
            params={"epoch": self.epoch, "wait_s": 20},
            headers={"authorization": f"Bearer {self.reader}"},
            timeout=30,
        )
        assert answer.json()["epoch"] == self.epoch, answer.text

    def route(self, *, event_clock: bool, **weights) -> RouteChanged:
        numbered = {int(name[1:]): weight for name, weight in weights.items()}
        shares = [
            Share(
                version=version,
                weight=0 if weight == "shadow" else weight,
                shadow=weight == "shadow",
                slot=f"{self.model}@{version}",
                sha256=self.shas.get(version, "0" * 64),
                inputs=INPUTS,
            )
            for version, weight in numbered.items()
        ]
        return RouteChanged(
            model=self.model,
            epoch=self.epoch,
            shares=tuple(shares),
            runtime=f"unix:{self.folder / 'r.sock'}",
            replicas=self.replicas,
            event_clock=event_clock,
        )

    async def publish(self, *events) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.stack.kafka_brokers)
        await producer.start()
        for event in events:
            await send_event(producer, event.delivered(a_delivery()))
        await producer.stop()

    def access(self) -> list[AccessKeyChanged]:
        return [
            AccessKeyChanged(
                key_id=str(uuid.uuid4()),
                name="test",
                sha256=hashlib.sha256(key.encode()).hexdigest(),
                scopes=frozenset(scopes),
            )
            for key, scopes in (
                (self.key, {Scope.INFER}),
                (self.reader, {Scope.READ}),
                (self.sender, {Scope.INGEST}),
                (self.admin, {Scope.ADMIN}),
                (self.operator, {Scope.OPERATE}),
            )
        ]

    def load(self, *versions: int, runtime: ServiceProcess | None = None) -> None:
        """Put versions into the object store and have the runtime, or another, load them."""
        for version in versions:
            files = a_version(version).files(ROWS, model=self.model)
            body = asyncio.run(self._upload(version, files))
            where = (runtime or self.runtime).url
            answer = httpx.post(
                f"{where}/v2/repository/models/{self.model}@{version}/load",
                json=body,
                headers={"authorization": f"Bearer {self.service_key}"},
                timeout=60,
            )
            assert answer.status_code == 200, answer.text
            self.shas[version] = files.sha256

    async def _upload(self, version: int, files: VersionFiles) -> dict[str, object]:
        async with fresh_bucket(self.stack.s3()) as blobs:
            blobs.bucket = self.bucket
            await blobs.ensure_bucket()
            refs: dict[str, BlobRef] = {
                part: await blobs.put_bytes(f"{version}/{part}", getattr(files, part))
                for part in ("onnx", "manifest", "golden")
            }
        return {part: ref.model_dump() for part, ref in refs.items()}

    def logged(self, until: str) -> list[list[PredictionLogged | str]]:
        """Mark, then return each partition's predictions and markers of the model, in order."""
        self.mark(until)
        return asyncio.run(self._logged(until))

    def predictions(self, until: str) -> list[PredictionLogged]:
        """Mark, then return all predictions logged, deduplicated as consumers do."""
        found: dict[tuple[str, Role, int], PredictionLogged] = {}
        for partition in self.logged(until):
            for event in partition:
                if isinstance(event, PredictionLogged):
                    identity = (event.request_id, event.role, event.version)
                    before = found.setdefault(identity, event)
                    assert before == event
        return list(found.values())

    async def _logged(self, until: str) -> list[list[PredictionLogged | str]]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.stack.kafka_brokers, auto_offset_reset="earliest"
        )
        await consumer.start()
        partitions = [TopicPartition(TOPIC.name, number) for number in range(TOPIC.partitions)]
        consumer.assign(partitions)
        found: dict[int, list[PredictionLogged | str]] = {p.partition: [] for p in partitions}
        try:
            async with asyncio.timeout(60):
                while not all(until in events for events in found.values()):
                    for record in (await consumer.getmany(timeout_ms=200)).values():
                        for each in record:
                            self._take(each, found[each.partition])
        finally:
            await consumer.stop()
        return list(found.values())

    def _take(self, record, events: list[PredictionLogged | str]) -> None:
        if cloudevents.header(record, "ce_type") == MARKER:
            marker = json.loads(record.value)
            if marker["subject"] == self.model:
                events.append(marker["event_time"])
            return
        event = cloudevents.parse(record, PredictionLogged)
        if event.model == self.model:
            assert record.key.decode() == event.request_id
            events.append(event)


@pytest.fixture(scope="package")
def served(stack: Backends) -> Iterator[Served]:
    """One version, answering alone."""
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="gw-")))
        system = Served(stack, folder)
        asyncio.run(system.publish(*system.access()))
        undo.callback(system.runtime.stop)
        system.runtime.start()
        undo.callback(system.gateway.stop)
        system.gateway.start(health="/v2/health/live")
        system.load(1, 2, 3)
        system.follow(v1=100)
        yield system
