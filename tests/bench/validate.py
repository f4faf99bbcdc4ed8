"""Kafka to validated Delta rows, against a bare reader of the same topic in the same run."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from gyral.contracts.data import RecordSubmitted
from gyral.kit.blobs import Blobs
from gyral.testkit.backends import PERSONAL_SECRET, Backends, fresh_bucket, fresh_schema
from gyral.testkit.events import send
from gyral.testkit.processes import ServiceProcess
from gyral.testkit.waiting import until
from tests.bench.feed import STREAM, TOPIC, feeding, workers
from tests.bench.pacing import now_s, reach
from tests.bench.rows import declared

LOOK_S = 0.02
"""How often progress is looked at: a measurement's resolution."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Rows a second."""

    validation: float
    bare: float

    @property
    def ratio(self) -> float:
        """Ours over the bare reader's."""
        return self.validation / self.bare


async def run(backends: Backends, folder: Path, *, count: int = 600_000) -> Rates:
    """Fill the topic; the bare reader, validation and again the bare reader read it."""
    brokers = backends.kafka_brokers
    await declare(brokers)
    await fill(brokers, 0, count)
    before = await bare_rows_per_s(brokers)
    async with fresh_schema(backends) as dsn, fresh_bucket(backends.s3()) as blobs:
        env = settings(backends, dsn, blobs)
        ours = await validation_rows_per_s(env, folder / "validation.log", count)
    after = await bare_rows_per_s(brokers)
    return Rates(validation=ours, bare=(before + after) / 2)


async def declare(brokers: str) -> None:
    """Declare the benchmark's stream."""
    async with AIOKafkaProducer(bootstrap_servers=brokers, acks="all") as producer:
        await send(producer, declared(STREAM))


async def fill(brokers: str, first: int, count: int) -> None:
    """Produce rows as single records, each where its key belongs."""
    with workers() as pool:
        async with feeding(brokers, pool) as feed:
            await feed.send(await feed.prepared(first, count))


async def bare_rows_per_s(brokers: str) -> float:
    """Have the bare reader read the topic in a process of its own."""
    reader = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.bare_reader",
        brokers,
        TOPIC,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await reader.communicate()
    return float(printed)


def settings(backends: Backends, dsn: str, blobs: Blobs) -> Mapping[str, str]:
    """Return the environment of a validation process."""
    s3 = backends.s3(blobs.bucket)
    return {
        "KAFKA_BROKERS": backends.kafka_brokers,
        "DATABASE": dsn,
        "S3_ENDPOINT": s3.s3_endpoint,
        "S3_ACCESS_KEY": s3.s3_access_key,
        "S3_SECRET_KEY": s3.s3_secret_key.get_secret_value(),
        "S3_BUCKET": s3.s3_bucket,
        "PERSONAL_SECRET": PERSONAL_SECRET,
        "INSTANCE": uuid.uuid4().hex[:8],
    }


@asynccontextmanager
async def running(env: Mapping[str, str], log: Path) -> AsyncIterator[ServiceProcess]:
    """Run validation for as long as the block lasts."""
    process = ServiceProcess("gyral.validation", env, log)
    await asyncio.to_thread(process.start, within_s=120)
    try:
        yield process
    finally:
        await asyncio.to_thread(process.stop)


async def validation_rows_per_s(env: Mapping[str, str], log: Path, wanted: int) -> float:
    """Start validation on a filled topic and return its rate from first commit to last."""
    conn = await asyncpg.connect(env["DATABASE"])
    try:
        async with running(env, log):
            return rate_between(await commits(conn, wanted))
    finally:
        await conn.close()


async def commits(
    conn: "asyncpg.Connection[asyncpg.Record]", wanted: int, *, timeout_s: float = 300.0
) -> Sequence[tuple[float, int]]:
    """Return when how many rows of the stream were committed, up to the wanted count."""
    seen: list[tuple[float, int]] = []
    async with asyncio.timeout(timeout_s):
        while not seen or seen[-1][1] < wanted:
            reached = await committed_rows(conn)
            if reached and (not seen or reached > seen[-1][1]):
                seen.append((now_s(), reached))
            await reach(now_s() + LOOK_S)
    return seen


def rate_between(seen: Sequence[tuple[float, int]]) -> float:
    """Return rows a second from the first of these moments to the last."""
    (began, first), (ended, last) = seen[0], seen[-1]
    return (last - first) / (ended - began)


async def caught_up(backends: Backends, dsn: str) -> None:
    """Return once validation stands at the end of the topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=backends.kafka_brokers)
    conn = await asyncpg.connect(dsn)
    await consumer.start()
    try:
        partitions = range(RecordSubmitted.topic.partitions)
        ends = await consumer.end_offsets([TopicPartition(TOPIC, at) for at in partitions])
        wanted = {place.partition: end for place, end in ends.items() if end}

        async def there() -> bool:
            rows = await conn.fetch(
                "SELECT partition, next_offset FROM sink_offset WHERE topic = $1", TOPIC
            )
            return dict(map(tuple, rows)) == wanted

        await until(there, timeout_s=120)
    finally:
        await consumer.stop()
        await conn.close()


async def committed_rows(conn: "asyncpg.Connection[asyncpg.Record]") -> int:
    """Return how many rows of the stream were committed, lake and Postgres both."""
    try:
        found: int | None = await conn.fetchval(
            "SELECT rows FROM stream_progress WHERE stream = $1", STREAM
        )
    except asyncpg.UndefinedTableError:
        return 0
    return found or 0
