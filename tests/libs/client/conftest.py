"""The door and the registry as they really run, and `gyral` as people type it."""

import asyncio
import io
import json
import os
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg
import httpx
import orjson
import pyarrow as pa
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from gyral.client import commandline
from gyral.contracts.batches import BatchForm, BatchSubmitted
from gyral.contracts.data import RecordSubmitted
from gyral.kit import cloudevents
from gyral.kit.dataplane import is_marker
from gyral.testkit.backends import PERSONAL_SECRET, fresh_schema
from gyral.testkit.processes import ServiceProcess
from gyral.testkit.waiting import until
from tests.libs.client.stores import Stores, fresh_stores

ADMIN = f"admin-{secrets.token_hex(12)}"
TOPIC = RecordSubmitted.topic
FIELDS = {
    "id": {"type": "string"},
    "at": {"type": "timestamp"},
    "amount": {"type": "number", "nullable": True},
    "items": {"type": "integer", "nullable": True},
    "paid": {"type": "boolean", "nullable": True},
}


@dataclass(frozen=True)
class Ways:
    """What leads into the platform, and what is behind it."""

    ingestion: ServiceProcess
    registry: ServiceProcess
    brokers: str
    doors_dsn: str


@dataclass(frozen=True)
class Sender:
    """One user's `gyral`, with a stream and a home of the test's own."""

    ways: Ways
    stream: str
    home: Path

    @property
    def environment(self):
        return {
            "GYRAL_HOME": str(self.home),
            "GYRAL_INGESTION_URL": self.ways.ingestion.url,
            "GYRAL_REGISTRY_URL": self.ways.registry.url,
            "GYRAL_API_KEY": ADMIN,
            "COLUMNS": "200",
        }

    def start(self, *words, stderr=subprocess.PIPE, **environment):
        """Start `gyral send` for the stream, as a process that can be killed."""
        return subprocess.Popen(
            [sys.executable, "-m", "gyral.client", "send", self.stream, *map(str, words)],
            env=os.environ | self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )

    def run(self, *words, given=b"", **environment):
        """Run `gyral send`; return exit status, what it said and what it complained of."""
        arguments = ["send", self.stream, *map(str, words), "-o", "json"]
        stdin = io.TextIOWrapper(io.BytesIO(given))
        with (
            ThreadPoolExecutor(1) as beside,  # a loop of its own, as the command line makes one
            patch.dict(os.environ, self.environment | environment),
            patch.object(sys, "stdin", stdin),
            redirect_stdout(io.StringIO()) as out,
            redirect_stderr(io.StringIO()) as err,
        ):
            status = beside.submit(commandline.run, arguments).result()
        said = out.getvalue()
        return status, json.loads(said) if said else None, err.getvalue()

    def sent(self, *words, **others):
        """Run `gyral send`, which must succeed; return its account of each source."""
        status, said, err = self.run(*words, **others)
        assert (status, err) == (0, "")
        return said

    def refused(self, *words, **others):
        """Run `gyral send`, which must fail; return its one line."""
        status, said, err = self.run(*words, **others)
        assert (status, said, err.count("\n")) == (1, None, 1), err
        assert err.startswith("gyral: ")
        return err

    async def taken(self):
        """Return how many rows the door took, each idempotency key counted once."""
        connection = await asyncpg.connect(self.ways.doors_dsn)
        try:
            return await connection.fetchval(
                "SELECT coalesce(sum(accepted), 0) FROM submission"
            )
        finally:
            await connection.close()

    async def rows(self):
        """Return the rows that Kafka holds of the stream, in order of their keys."""
        found = [
            row
            for record in await records_of(self.ways.brokers, self.stream)
            for row in _rows_in(record)
        ]
        return sorted(found, key=lambda row: str(row.values["id"]))

    async def values(self):
        """Return what these rows hold, times as times."""
        return [row.values for row in await self.rows()]

    async def keys(self):
        """Return the keys of the stream that Kafka holds."""
        return {row.values["id"] for row in await self.rows()}


@dataclass(frozen=True)
class Row:
    """One row in Kafka, in whichever form it came, and what tells it from all others."""

    id: str
    values: dict[str, Any]


def _rows_in(record):
    headers = {name: value.decode() for name, value in record.headers}
    if headers["ce_type"] != BatchSubmitted.type:
        event = cloudevents.parse(record, RecordSubmitted)
        return [Row(event.delivery.event_id, _timed(event.values))]
    told = BatchSubmitted.described_by(headers)
    if told.form is BatchForm.ARROW:
        found = pa.ipc.open_stream(record.value).read_all().to_pylist()
    else:
        found = [orjson.loads(line) for line in record.value.split(b"\n")]
    assert len(found) == told.rows
    place = cloudevents.place(record)
    return [Row(f"{place}/{at}", _timed(values)) for at, values in enumerate(found)]


def _timed(values):
    at = values["at"]
    return {**values, "at": datetime.fromisoformat(at) if isinstance(at, str) else at}


async def records_of(brokers, stream):
    """Return all records of a stream but markers, as Kafka has them."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    found = []
    try:
        places = [TopicPartition(TOPIC.name, number) for number in range(TOPIC.partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        for place in places:
            while await consumer.position(place) < ends[place]:
                fetched = await consumer.getmany(place, timeout_ms=1000)
                found += [
                    record
                    for record in fetched.get(place, [])
                    if not is_marker(record) and _is_of(stream.encode(), record)
                ]
    finally:
        await consumer.stop()
    return found


def _is_of(stream, record):
    told = dict(record.headers).get("ce_stream")
    return stream in (record.value or b"") if told is None else told == stream


@pytest.fixture(scope="session")
def ways(stack, tmp_path_factory):
    """Ingestion and registry as processes, for the whole session."""
    logs = tmp_path_factory.mktemp("ways")
    with asyncio.Runner() as runner:
        schemas = [fresh_schema(stack) for _ in range(2)]
        ours, theirs = [runner.run(schema.__aenter__()) for schema in schemas]
        common = {"KAFKA_BROKERS": stack.kafka_brokers, "PERSONAL_SECRET": PERSONAL_SECRET}
        door = ServiceProcess(
            "gyral.ingestion",
            common | {"DATABASE": ours, "INGESTION_MAX_IN_FLIGHT": "2"},
            logs / "ingestion",
        )
        registry = ServiceProcess(
            "gyral.registry",
            common
            | {
                "DATABASE": theirs,
                "REGISTRY_ADMIN_KEY": ADMIN,
                "INSTANCE_ID": f"registry-{secrets.token_hex(4)}",
            },
            logs / "registry",
        )
        try:
            registry.start()
            door.start()
            yield Ways(door, registry, stack.kafka_brokers, ours)
        finally:
            door.stop()
            registry.stop()
            for schema in schemas:
                runner.run(schema.__aexit__(None, None, None))


@pytest.fixture
async def sender(ways, tmp_path):
    """A declared stream, and `gyral` to send to it."""
    sender = Sender(ways, f"orders-{secrets.token_hex(4)}", tmp_path / "home")
    spec = {
        "apiVersion": "gyral/v1",
        "kind": "Stream",
        "metadata": {"name": sender.stream},
        "spec": {"key": "id", "event_time": "at", "clock": "event", "fields": FIELDS},
    }
    keyed = {"authorization": f"Bearer {ADMIN}"}
    async with httpx.AsyncClient(headers=keyed, timeout=30) as client:

        async def declared():
            answer = await client.post(f"{ways.registry.url}/v1/specs", json=spec)
            return answer.status_code == 200

        async def known():
            path = f"/v1/streams/{sender.stream}/watermark"
            marker = {"event_time": "2020-01-01T00:00:00Z"}
            return (await client.post(ways.ingestion.url + path, json=marker)).is_success

        await until(declared, timeout_s=60)
        await until(known, timeout_s=60)
    before = await sender.taken()
    return sender, before


@pytest.fixture(scope="session")
def stores_dsn(stack):
    """A database with the tables of every service, for the whole session."""
    with asyncio.Runner() as runner:
        made = fresh_stores(stack)
        yield runner.run(made.__aenter__())
        runner.run(made.__aexit__(None, None, None))


@pytest.fixture
async def stores(stores_dsn):
    """Every service's tables, empty; what a test plants is taken back."""
    connection = await asyncpg.connect(stores_dsn)
    planting = connection.transaction()
    await planting.start()
    yield Stores(connection)
    await planting.rollback()
    await connection.close()
