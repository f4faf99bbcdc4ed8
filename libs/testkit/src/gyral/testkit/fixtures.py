"""The fixtures every test may ask for; loaded by tests/conftest.py as a pytest plugin.

Set GYRAL_TEST_HOME to a folder to keep one instance running from session to session.
"""

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import structlog
from aiokafka import AIOKafkaProducer

from gyral.contracts.events import Topic
from gyral.kit.blobs import Blobs
from gyral.kit.db import Pool
from gyral.testkit import minio
from gyral.testkit.backends import (
    Backends,
    S3Settings,
    fresh_bucket,
    fresh_schema,
    fresh_topic,
    make_topics,
    migrated_pool,
    start_backends,
)
from gyral.testkit.processes import ServiceProcess


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Log plain lines: the default for terminals draws every frame's variables, for seconds."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
        ]
    )


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    """Real Kafka, Postgres and S3, in an instance of this session's own."""
    kept = os.environ.get("GYRAL_TEST_HOME")
    backends = start_backends(Path(kept) if kept else tmp_path_factory.mktemp("gyral"))
    yield backends
    if not kept:
        backends.stack.down()


@pytest.fixture(scope="session")
def kafka_brokers(stack: Backends) -> str:
    """Address of Kafka, with all topics of the contracts."""
    return stack.kafka_brokers


@pytest.fixture
async def postgres_dsn(stack: Backends) -> AsyncIterator[str]:
    """Address of an empty schema of this test's own."""
    async with fresh_schema(stack) as dsn:
        yield dsn


@pytest.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[Pool]:
    """A pool on a schema with the kit's tables; services have `migrated_pool` for their own."""
    async with migrated_pool(postgres_dsn) as opened:
        yield opened


@pytest.fixture
async def new_topic(kafka_brokers: str) -> Callable[..., Awaitable[Topic]]:
    """Make topics of this test's own, each with its dead letters."""

    async def make(
        *, partitions: int = 1, compacted: bool = False, dead_letters: bool = True
    ) -> Topic:
        topic = fresh_topic(
            partitions=partitions, compacted=compacted, dead_letters=dead_letters
        )
        parked = [Topic(topic.dead_letter_name, partitions=1)] if dead_letters else []
        await make_topics(kafka_brokers, topic, *parked)
        return topic

    return make


@pytest.fixture
async def topic(new_topic: Callable[..., Awaitable[Topic]]) -> Topic:
    """A topic of this test's own with three partitions, and its dead letters."""
    return await new_topic(partitions=3)


@pytest.fixture(scope="session")
def minio_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    """MinIO in place of S3Proxy, for tests that carry the marker `minio`."""
    binary = minio.program()
    if binary is None:
        pytest.skip("MinIO is not here and Go, which would build it, is missing: install Go")
    with minio.running(binary, tmp_path_factory.mktemp("minio")) as store:
        yield store


@pytest.fixture
def object_store(request: pytest.FixtureRequest) -> S3Settings:
    """The object store: S3Proxy, or MinIO for tests that carry its marker."""
    if request.node.get_closest_marker("minio"):
        second: S3Settings = request.getfixturevalue("minio_store")
        return second
    backends: Backends = request.getfixturevalue("stack")
    return backends.s3()


@pytest.fixture
async def blobs(object_store: S3Settings) -> AsyncIterator[Blobs]:
    """An empty bucket of this test's own."""
    async with fresh_bucket(object_store) as bucket:
        yield bucket


@pytest.fixture
def service_process(
    stack: Backends, blobs: Blobs, postgres_dsn: str, tmp_path: Path
) -> Iterator[Callable[..., ServiceProcess]]:
    """Make services' processes over stores of this test's own; what still runs is ended.

    `service_process("trainer", TRAINER_LEASE_S="2").start()`; killed, it starts as itself.
    """
    made: list[ServiceProcess] = []

    def make(name: str, **env: str) -> ServiceProcess:
        own = {
            "STATE_DIR": str(tmp_path / name),
            "INSTANCE_ID": f"{name}-{secrets.token_hex(4)}",
        }
        stores = stack.service_env(database=postgres_dsn, bucket=blobs.bucket)
        process = ServiceProcess(
            f"gyral.{name}", {**stores, **own, **env}, tmp_path / f"{name}-{len(made)}.log"
        )
        made.append(process)
        return process

    yield make
    for process in made:
        process.stop()


@pytest.fixture
async def producer(kafka_brokers: str) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that stands in for the services a test does without."""
    async with AIOKafkaProducer(bootstrap_servers=kafka_brokers) as sending:
        yield sending
