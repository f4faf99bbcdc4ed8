"""The gateway as it serves: real processes, a real key, a route, its log going to Kafka."""

import asyncio
import hashlib
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from prometheus_client.parser import text_string_to_metric_families

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.contracts.deployment import Datatype, Input, RouteChanged, Share
from gyral.contracts.events import Event
from gyral.contracts.inference import PredictionLogged
from gyral.contracts.names import BlobRef
from gyral.gateway.api.packed import PACKED
from gyral.testkit.backends import Backends, fresh_bucket
from gyral.testkit.events import a_delivery, send
from gyral.testkit.processes import ServiceProcess, free_port
from gyral.testkit.waiting import until
from tests.bench.serving import rpc
from tests.bench.serving.load import Target, as_json
from tests.bench.serving.model import FEATURES, Served

_KEY = "key-of-this-benchmark"
_TOPIC = PredictionLogged.topic
_PARTITIONS = [TopicPartition(_TOPIC.name, number) for number in range(_TOPIC.partitions)]
_INPUTS = tuple(Input(name=name, datatype=Datatype.FP32) for name in FEATURES)
_DRAINED_S = 120.0
_TO_THE_END = -1


@dataclass(frozen=True, slots=True)
class System:
    """A gateway and a runtime that answer."""

    backends: Backends
    gateway: ServiceProcess
    runtime: ServiceProcess
    grpc_port: int

    @property
    def pids(self) -> Mapping[str, int]:
        """The processes that take part in an answer and its log."""
        kafka = self.backends.stack.statuses()["kafka"].pid or 0
        return {"gateway": self.gateway.pid, "runtime": self.runtime.pid, "kafka": kafka}

    def target(self, model: str, served: Served, rows: int) -> Target:
        """Return the request for the first rows of the sample: all features in one tensor."""
        cells = [cell for row in served.rows[:rows] for cell in row]
        shape = [rows, len(FEATURES)]
        tensor = {"name": PACKED, "shape": shape, "datatype": "FP32", "data": cells}
        return Target(
            f"{self.gateway.url}/v2/models/{model}/infer",
            as_json({"inputs": [tensor]}),
            served.probabilities[:rows],
            {"authorization": f"Bearer {_KEY}", "content-type": "application/json"},
        )

    def binary_target(self, model: str, served: Served, rows: int) -> Target:
        """Return the same request with its tensor in binary behind the JSON."""
        raw = np.array(served.rows[:rows], dtype="<f4").tobytes()
        tensor = {
            "name": PACKED,
            "shape": [rows, len(FEATURES)],
            "datatype": "FP32",
            "parameters": {"binary_data_size": len(raw)},
        }
        head = as_json({"inputs": [tensor]})
        return Target(
            f"{self.gateway.url}/v2/models/{model}/infer",
            head + raw,
            served.probabilities[:rows],
            {
                "authorization": f"Bearer {_KEY}",
                "content-type": "application/octet-stream",
                "inference-header-content-length": str(len(head)),
            },
        )

    def rpc_target(self, model: str, served: Served, rows: int) -> Target:
        """Return the same question as a message of gRPC, its tensor raw."""
        raw = np.array(served.rows[:rows], dtype="<f4").tobytes()
        return Target(
            f"http://127.0.0.1:{self.grpc_port}{rpc.METHOD}",
            rpc.question(model, PACKED, (rows, len(FEATURES)), raw),
            served.probabilities[:rows],
            {"authorization": f"Bearer {_KEY}"},
        )

    async def logged(self) -> int:
        """Return how many records the prediction log holds."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.backends.kafka_brokers)
        await consumer.start()
        try:
            return sum((await consumer.end_offsets(_PARTITIONS)).values())
        finally:
            await consumer.stop()

    async def answered(self) -> int:
        """Return how many requests the gateway says that it answered with success."""
        async with httpx.AsyncClient() as client:
            told = await client.get(f"{self.gateway.url}/metrics")
        return successes(told.raise_for_status().text)

    async def forget_log(self) -> None:
        """Let Kafka drop all that the prediction log holds, for the disk's sake."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.backends.kafka_brokers)
        await admin.start()
        try:
            everything = RecordsToDelete(_TO_THE_END)
            await admin.delete_records(dict.fromkeys(_PARTITIONS, everything))
        finally:
            await admin.close()

    async def log_reached(self, records: int) -> None:
        """Return once the prediction log holds at least so many records.

        Raises:
            TimeoutError: it does not: an answer was not logged.
        """

        async def there() -> bool:
            return await self.logged() >= records

        await until(there, timeout_s=_DRAINED_S)


def successes(metrics: str) -> int:
    """Return the answers of status 200 in what a gateway tells Prometheus."""
    return sum(
        int(sample.value)
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == "gyral_gateway_seconds_count"
        and sample.labels["status"] == str(HTTPStatus.OK.value)
    )


@contextmanager
def serving(
    backends: Backends, models: Mapping[str, Served], folder: Path, **knobs: str
) -> Iterator[System]:
    """Run a gateway and a runtime that serve these models, until the block ends."""
    with ExitStack() as undo:
        traces, grpc_port = undo.enter_context(_collector()), free_port()
        gateway = ServiceProcess(
            "gyral.gateway",
            {
                "STATE_DIR": str(folder / "gateway"),
                "KAFKA_BROKERS": backends.kafka_brokers,
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": traces,
                "GATEWAY_GRPC_PORT": str(grpc_port),
                **knobs,
            },
            folder / "gateway.log",
        )
        runtime = _runtime(backends, folder)
        undo.callback(runtime.stop)
        runtime.start()
        routes = [_loaded(backends, runtime, name, model) for name, model in models.items()]
        asyncio.run(_publish(backends.kafka_brokers, _access(), *routes))
        undo.callback(gateway.stop)
        gateway.start()
        yield System(backends, gateway, runtime, grpc_port)


def _runtime(backends: Backends, folder: Path) -> ServiceProcess:
    s3 = backends.s3(f"bench-{uuid.uuid4().hex[:12]}")
    return ServiceProcess(
        "gyral.runtime",
        {
            "STATE_DIR": str(folder / "runtime"),
            "RUNTIME_LISTEN": f"unix:{folder}/runtime.sock",
            "SERVICE_KEY": _KEY,
            "S3_ENDPOINT": s3.s3_endpoint,
            "S3_ACCESS_KEY": s3.s3_access_key,
            "S3_SECRET_KEY": s3.s3_secret_key.get_secret_value(),
            "S3_BUCKET": s3.s3_bucket,
        },
        folder / "runtime.log",
    )


def _loaded(
    backends: Backends, runtime: ServiceProcess, name: str, model: Served
) -> RouteChanged:
    """Have the runtime hold a model, and return the route to it."""
    slot, files = f"{name}@1", model.files()
    parts = {part: getattr(files, part) for part in ("onnx", "manifest", "golden")}
    refs = asyncio.run(_uploaded(backends, runtime.env["S3_BUCKET"], name, parts))
    answer = httpx.post(
        f"{runtime.url}/v2/repository/models/{slot}/load",
        json={part: ref.model_dump() for part, ref in refs.items()},
        headers={"authorization": f"Bearer {_KEY}"},
        timeout=120,
    )
    answer.raise_for_status()
    share = Share(version=1, weight=100, slot=slot, sha256=files.sha256, inputs=_INPUTS)
    return RouteChanged(
        model=name,
        epoch=1,
        shares=(share,),
        runtime=runtime.env["RUNTIME_LISTEN"],
        event_clock=False,
    )


async def _uploaded(
    backends: Backends, bucket: str, name: str, parts: Mapping[str, bytes]
) -> Mapping[str, BlobRef]:
    async with fresh_bucket(backends.s3()) as blobs:
        blobs.bucket = bucket
        await blobs.ensure_bucket()
        return {
            part: await blobs.put_bytes(f"{name}/{part}", data) for part, data in parts.items()
        }


async def _publish(brokers: str, *events: Event) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=brokers)
    await producer.start()
    try:
        for event in events:
            await send(producer, event.delivered(a_delivery()))
    finally:
        await producer.stop()


def _access() -> AccessKeyChanged:
    return AccessKeyChanged(
        key_id=str(uuid.uuid4()),
        name="bench",
        sha256=hashlib.sha256(_KEY.encode()).hexdigest(),
        scopes=frozenset({Scope.INFER}),
    )


class _Spans(BaseHTTPRequestHandler):
    """Takes whatever spans come."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(HTTPStatus.OK)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing of it."""


@contextmanager
def _collector() -> Iterator[str]:
    """Yield where traces may be sent to."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Spans)
    thread = threading.Thread(target=server.serve_forever, name="traces")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
