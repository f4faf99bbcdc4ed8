"""Kafka to validated Delta rows, against a bare reader of the same topic in the same run."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from gyral.contracts.data import RecordSubmitted
from gyral.kit.blobs import Blobs
from gyral.kit.partitioning import partitions_of
from gyral.testkit.backends import PERSONAL_SECRET, Backends, fresh_bucket, fresh_schema
from gyral.testkit.events import send
from gyral.testkit.processes import ServiceProcess
from gyral.testkit.waiting import until
from tests.bench.pacing import now_s, reach
from tests.bench.rows import as_records, declared, rows

TOPIC = RecordSubmitted.topic.name
STREAM = "bench"
_CHUNK = 20_000
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
    async with AIOKafkaProducer(
        bootstrap_servers=brokers, acks="all", max_batch_size=500_000
    ) as producer:
        partitions = len(await producer.partitions_for(TOPIC))
        for start in range(first, first + count, _CHUNK):
            chunk = rows(min(_CHUNK, first + count - start), first=start)
            keys = [str(row["id"]).encode() for row in chunk]
            homes = partitions_of(keys, partitions).tolist()
            builders = {at: producer.create_batch() for at in range(partitions)}
            for key, value, home in zip(keys, as_records(STREAM, chunk), homes, strict=True):
                builder = builders[home]
                if builder.append(key=key, value=value, timestamp=None) is None:
                    await producer.send_batch(builder, TOPIC, partition=home)
                    builder = builders[home] = producer.create_batch()
                    builder.append(key=key, value=value, timestamp=None)
            for home, builder in builders.items():
                await producer.send_batch(builder, TOPIC, partition=home)
        await producer.flush()


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
            seen: list[tuple[float, int]] = []
            async with asyncio.timeout(300):
                while not seen or seen[-1][1] < wanted:
                    reached = await committed_rows(conn)
                    if reached and (not seen or reached > seen[-1][1]):
                        seen.append((now_s(), reached))
                    await reach(now_s() + LOOK_S)
    finally:
        await conn.close()
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
