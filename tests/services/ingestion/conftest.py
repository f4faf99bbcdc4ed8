"""Ingestion as a process of its own, over real Kafka and Postgres."""

import asyncio
import hashlib
import json
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.ipc
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.contracts.data import RecordSubmitted, StreamDeclared
from gyral.testkit.backends import PERSONAL_SECRET
from gyral.testkit.events import send
from gyral.testkit.waiting import until

READY_S = 60
KEY = "ingest-key-of-this-session"
READER = "read-key-of-this-session"
NDJSON = {"content-type": "application/x-ndjson"}


def declared(name, **body):
    spec = {
        "apiVersion": "gyral/v1",
        "kind": "Stream",
        "metadata": {"name": name},
        "spec": {
            "key": "id",
            "event_time": "at",
            "fields": {
                "id": {"type": "string"},
                "at": {"type": "timestamp"},
                "x": {"type": "number", "nullable": True},
                "n": {"type": "integer", "nullable": True},
                "s": {"type": "string", "nullable": True},
                "b": {"type": "boolean", "nullable": True},
            },
            **body,
        },
    }
    return StreamDeclared.model_validate({"name": name, "generation": 1, "spec": spec})


def access(key, scope):
    return AccessKeyChanged(
        key_id=str(uuid.uuid4()),
        name="test",
        sha256=hashlib.sha256(key.encode()).hexdigest(),
        scopes=frozenset({scope}),
    )


def rows_of(record, partition):
    """Read a batch record as its contract says, with nothing of ours; markers hold no rows."""
    headers = {name: value.decode() for name, value in record.headers}
    if headers["ce_type"] == "data.watermark.advanced.v1":
        return []
    assert headers["ce_type"] == "data.batch.submitted.v1"
    assert headers["ce_specversion"] == "1.0"
    assert headers["ce_id"]
    assert headers["ce_source"]
    assert headers["ce_schemaversion"] == "1"
    assert record.key is None
    assert len(record.value) <= 700_000
    if headers["content-type"] == "application/x-ndjson":
        rows = [json.loads(line) for line in record.value.split(b"\n")]
    else:
        assert headers["content-type"] == "application/vnd.apache.arrow.stream"
        rows = pa.ipc.open_stream(record.value).read_all().to_pylist()
    assert headers["ce_rows"] == str(len(rows))
    assert len(rows) <= 10_000
    for row in rows:
        assert murmur2(row["id"].encode()) % 2**31 % 3 == partition
    return rows


@dataclass(frozen=True)
class Door:
    """A running ingestion with a stream of the test's own."""

    client: httpx.AsyncClient
    stream: str
    brokers: str
    process: asyncio.subprocess.Process

    async def post(self, body, *, stream=None, **headers):
        given = {**NDJSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
        path = f"/v1/streams/{stream or self.stream}/records"
        return await self.client.post(path, content=body, headers=given)

    async def mark(self, body):
        return await self.client.post(f"/v1/streams/{self.stream}/watermark", content=body)

    async def records(self):
        """Return all Kafka holds of the stream now, by partition."""
        topic = RecordSubmitted.topic.name
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.brokers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            places = [TopicPartition(topic, number) for number in range(3)]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            found: dict[int, list[Any]] = {}
            for place in places:
                while await consumer.position(place) < ends[place]:
                    fetched = await consumer.getmany(place, timeout_ms=1000)
                    for record in fetched.get(place, []):
                        if self._is_ours(record):
                            found.setdefault(place.partition, []).append(record)
            return found
        finally:
            await consumer.stop()

    def _is_ours(self, record):
        of = dict(record.headers).get("ce_stream", b"").decode()
        return of == self.stream or f'"{self.stream}"'.encode() in (record.value or b"")

    async def rows(self):
        """Return all rows Kafka holds of the stream, having checked how they lie there."""
        return [
            row
            for partition, records in (await self.records()).items()
            for record in records
            for row in rows_of(record, partition)
        ]


SMALL = {
    "INGESTION_MAX_BODY_BYTES": "1000000",
    "INGESTION_MAX_INFLATED_BYTES": "2000000",
    "INGESTION_MAX_ROWS": "1000",
}


@pytest.fixture
async def door(stack, postgres_dsn, tmp_path) -> AsyncIterator[Door]:
    """A door with small limits."""
    async with open_door(stack, postgres_dsn, tmp_path, SMALL) as opened:
        yield opened


@pytest.fixture
async def wide_door(stack, postgres_dsn, tmp_path) -> AsyncIterator[Door]:
    """A door with the limits it comes with."""
    async with open_door(stack, postgres_dsn, tmp_path, {}) as opened:
        yield opened


@asynccontextmanager
async def open_door(stack, dsn, folder, knobs, *, stream=None) -> AsyncIterator[Door]:
    """Start ingestion with a declared stream, and end it in good order."""
    stream = stream or f"rides-{uuid.uuid4().hex[:8]}"
    await _declare(stack.kafka_brokers, stream)
    port = _free_port()
    env = {
        **os.environ,
        "KAFKA_BROKERS": stack.kafka_brokers,
        "DATABASE": dsn,
        "STATE_DIR": str(folder),
        "HTTP_PORT": str(port),
        "PERSONAL_SECRET": PERSONAL_SECRET,
        "OMP_NUM_THREADS": "1",
        **knobs,
    }
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gyral.ingestion", env=env
    )
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            headers={"authorization": f"Bearer {KEY}"},
            timeout=30,
        ) as client:
            await _ready(client, started)
            yield Door(client, stream, stack.kafka_brokers, started)
    finally:
        if started.returncode is None:
            started.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await started.wait()


async def _declare(brokers, stream):
    producer = AIOKafkaProducer(bootstrap_servers=brokers, acks="all")
    await producer.start()
    await send(producer, declared(stream))
    await send(producer, access(KEY, Scope.INGEST))
    await send(producer, access(READER, Scope.READ))
    await producer.stop()


async def _ready(client, started):
    async def answers():
        assert started.returncode is None, f"ingestion ended with {started.returncode}"
        try:
            return (await client.get("/health/ready")).status_code == 200
        except httpx.TransportError:
            return False

    await until(answers, timeout_s=READY_S)


def _free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
