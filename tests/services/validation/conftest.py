"""Validation as a process of its own, over real Kafka, Postgres and S3."""

import asyncio
import hashlib
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.contracts.batches import BatchForm, BatchSubmitted
from gyral.contracts.data import (
    LabelsAccepted,
    RecordSubmitted,
    StreamDeclared,
    WatermarkAdvanced,
)
from gyral.contracts.versions import ModelDeclared
from gyral.kit import cloudevents
from gyral.kit.blobs import Blobs, table_options
from gyral.kit.partitioning import partitions_of
from gyral.testkit.backends import PERSONAL_SECRET, Backends
from gyral.testkit.events import a_delivery, send
from gyral.testkit.waiting import until

READY_S = 60
KEY = "test-key-of-this-session"
RECORDS = RecordSubmitted.topic.name


def stream_spec(name, **body):
    return {
        "apiVersion": "gyral/v1",
        "kind": "Stream",
        "metadata": {"name": name},
        "spec": {
            "key": "flight_id",
            "event_time": "at",
            "clock": "event",
            "fields": {
                "flight_id": {"type": "string"},
                "at": {"type": "timestamp"},
                "carrier": {"type": "string", "allowed": ["AA", "UA"], "nullable": True},
                "delay": {"type": "number", "minimum": -100, "maximum": 2000, "nullable": True},
            },
            **body,
        },
    }


def declared(name, generation=1, **body):
    return StreamDeclared.model_validate(
        {"name": name, "generation": generation, "spec": stream_spec(name, **body)}
    )


def model_declared(name, features, labels):
    return ModelDeclared.model_validate(
        {
            "name": name,
            "generation": 1,
            "spec": {
                "apiVersion": "gyral/v1",
                "kind": "Model",
                "metadata": {"name": name},
                "spec": {
                    "task": "binary-classification",
                    "features": {"stream": features, "fields": ["carrier"]},
                    "label": {"stream": labels, "key": "flight_id", "positive": "delay > 15"},
                    "train": {"trainer": "sklearn.logistic_regression"},
                },
            },
        }
    )


def row(key, at="2026-01-01T00:00:00Z", **values):
    return {"flight_id": key, "at": at, **values}


def record(value, offset, partition=0):
    return ConsumerRecord(
        topic="t",
        partition=partition,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        key=None,
        value=value,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=len(value),
        headers=(),
    )


@dataclass
class World:
    """One test's streams, and the process that judges them."""

    backends: Backends
    dsn: str
    blobs: Blobs
    producer: AIOKafkaProducer
    features: str = field(default_factory=lambda: f"departures-{uuid.uuid4().hex[:8]}")
    labels: str = field(default_factory=lambda: f"arrivals-{uuid.uuid4().hex[:8]}")
    model: str = field(default_factory=lambda: f"delay-{uuid.uuid4().hex[:8]}")
    port: int = 0

    async def declare(self):
        await send(self.producer, declared(self.features))
        await send(self.producer, declared(self.labels))
        await send(self.producer, model_declared(self.model, self.features, self.labels))
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        key = AccessKeyChanged(
            key_id=str(uuid.uuid4()),
            name="test",
            sha256=digest,
            scopes=frozenset({Scope.ADMIN}),
        )
        await send(self.producer, key)

    async def submit_together(self, stream, *rows):
        """Send rows as ingestion does, a batch a partition, and return their places."""
        count = len(await self.producer.partitions_for(RECORDS))
        homes = partitions_of([str(one["flight_id"]).encode() for one in rows], count)
        places = []
        for home in sorted(set(homes.tolist())):
            here = [one for one, at in zip(rows, homes, strict=True) if at == home]
            told = BatchSubmitted(
                stream=stream, schemaversion=1, rows=len(here), form=BatchForm.NDJSON
            )
            headers = dict(cloudevents.headers(told.type, str(uuid.uuid4()), "/test"))
            headers |= {name: text.encode() for name, text in told.attributes.items()}
            sent = await self.producer.send_and_wait(
                RECORDS,
                b"\n".join(map(orjson.dumps, here)),
                partition=home,
                headers=list(headers.items()),
            )
            places += [(home, sent.offset, at) for at in range(len(here))]
        return places

    async def submit(self, stream, *rows, version=1, raw=None, misplaced=False):
        """Send rows as upstream does and return their places."""
        places = []
        for values in rows:
            value = orjson.dumps(
                {
                    "stream": stream,
                    "schema_version": version,
                    "record_key": str(values["flight_id"]),
                    "values": values,
                }
            )
            key = str(values["flight_id"]).encode()
            count = len(await self.producer.partitions_for(RECORDS))
            home = (int(partitions_of([key], count)[0]) + misplaced) % count
            places.append(await self.put(raw or value, key=key, partition=home))
        return places

    async def put(self, value, *, key=b"k", partition=None, headers=()):
        sent = await self.producer.send_and_wait(
            RECORDS, value, key=key, partition=partition, headers=list(headers)
        )
        return sent.partition, sent.offset, 0

    async def mark(self, stream, event_time):
        marker = WatermarkAdvanced(subject=stream, event_time=event_time)
        encoded = cloudevents.encode(marker, a_delivery(), source="/test", topic=RECORDS)
        for partition in sorted(await self.producer.partitions_for(RECORDS)):
            await self.producer.send_and_wait(
                RECORDS,
                encoded.value,
                key=encoded.key,
                partition=partition,
                headers=encoded.headers,
            )

    def env(self, **knobs):
        s3 = self.backends.s3(self.blobs.bucket)
        return {
            **os.environ,
            "KAFKA_BROKERS": self.backends.kafka_brokers,
            "DATABASE": self.dsn,
            "S3_ENDPOINT": s3.s3_endpoint,
            "S3_ACCESS_KEY": s3.s3_access_key,
            "S3_SECRET_KEY": s3.s3_secret_key.get_secret_value(),
            "S3_BUCKET": s3.s3_bucket,
            "HTTP_PORT": str(self.port),
            "PERSONAL_SECRET": PERSONAL_SECRET,
            "OMP_NUM_THREADS": "1",
            **knobs,
        }

    @asynccontextmanager
    async def process(self, **knobs):
        """Run validation; yield its HTTP client once it is ready."""
        self.port = _free_port()
        started = await self._start(**knobs)
        try:
            async with self._client() as client:
                await _ready(client, started)
                yield client
        finally:
            started.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                await started.wait()

    async def killed_at(self, point):
        """Run validation until it kills itself at a named point."""
        self.port = _free_port()
        started = await self._start(VALIDATION_CRASH_AT=point)
        async with asyncio.timeout(READY_S):
            assert await started.wait() == -signal.SIGKILL

    @asynccontextmanager
    async def dying_at(self, point):
        """Run validation with nothing to do; what comes next kills it at a named point."""
        self.port = _free_port()
        started = await self._start(VALIDATION_CRASH_AT=point)
        async with self._client() as client:
            await _ready(client, started)
            yield client
        async with asyncio.timeout(READY_S):
            assert await started.wait() == -signal.SIGKILL

    def _client(self):
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"authorization": f"Bearer {KEY}"},
            timeout=30,
        )

    async def _start(self, **knobs):
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gyral.validation", env=self.env(**knobs)
        )

    def table_options(self):
        return dict(table_options(self.backends.s3(self.blobs.bucket)))

    def table_uri(self, name):
        return f"s3://{self.blobs.bucket}/lake/{name}"

    async def label_topic(self):
        """Return ("label", key) and ("marker", time) as told on of our labels, by partition."""
        found: dict[int, list[tuple[str, str]]] = {}
        async for record in read_all(self.backends.kafka_brokers, LabelsAccepted.topic.name):
            value = orjson.loads(record.value)
            told = found.setdefault(record.partition, [])
            if value.get("subject") == self.labels:
                told.append(("marker", value["event_time"]))
            elif value.get("stream") == self.labels:
                event = LabelsAccepted.model_validate_json(record.value)
                told += [("label", key) for key in event.keys]
        return found


async def read_all(brokers, topic):
    """Yield every record a topic holds now."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(3)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        for place in places:
            while await consumer.position(place) < ends[place]:
                fetched = await consumer.getmany(place, timeout_ms=1000)
                for record in fetched.get(place, []):
                    yield record
    finally:
        await consumer.stop()


async def _ready(client, started):
    async def answers():
        assert started.returncode is None, f"validation ended with {started.returncode}"
        try:
            return (await client.get("/health/ready")).status_code == 200
        except httpx.TransportError:
            return False

    await until(answers, timeout_s=READY_S)


def _free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
async def world(stack, postgres_dsn, blobs) -> AsyncIterator[World]:
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka_brokers, acks="all")
    await producer.start()
    made = World(stack, postgres_dsn, blobs, producer)
    await made.declare()
    yield made
    await producer.stop()
