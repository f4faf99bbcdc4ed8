"""Real Kafka, Postgres and S3 for a test session, and fresh corners of them for each test."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.resources.abc import Traversable
from pathlib import Path

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code
from pydantic import SecretStr

from gyral.contracts.events import Topic
from gyral.kit.blobs import Blobs
from gyral.kit.db import Pool, open_pool
from gyral.kit.migrate import migrate
from gyral.local.instance import Instance, PortChoice
from gyral.local.stack import Stack
from gyral.testkit.waiting import until

_NAMES = ("kafka", "postgres", "minio", "provision")
_DATABASE = "gyral"


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Where the object store is."""

    s3_endpoint: str
    s3_access_key: str
    s3_secret_key: SecretStr
    s3_bucket: str


PERSONAL_SECRET = "for tests alone, and so no secret at all"  # noqa: S105 - as it says
"""What tests' pseudonyms follow from."""


@dataclass(frozen=True, slots=True)
class Backends:
    """The addresses of one running instance."""

    stack: Stack
    env: Mapping[str, str]

    @property
    def kafka_brokers(self) -> str:
        """Address of Kafka."""
        return self.env["KAFKA_BROKERS"]

    @property
    def postgres_admin_dsn(self) -> str:
        """Address of the database, as its superuser."""
        secret, address = self.env["POSTGRES_PASSWORD"], self.env["POSTGRES_ADDRESS"]
        return f"postgresql://postgres:{secret}@{address}/{_DATABASE}"

    def s3(self, bucket: str = "gyral") -> S3Settings:
        """Return the settings that lead to a bucket."""
        return S3Settings(
            s3_endpoint=self.env["S3_ENDPOINT"],
            s3_access_key=self.env["S3_ACCESS_KEY"],
            s3_secret_key=SecretStr(self.env["S3_SECRET_KEY"]),
            s3_bucket=bucket,
        )

    def service_env(self, *, database: str, bucket: str) -> dict[str, str]:
        """Return the environment of a service whose stores are these."""
        s3 = self.s3(bucket)
        return {
            "KAFKA_BROKERS": self.kafka_brokers,
            "DATABASE": database,
            "S3_ENDPOINT": s3.s3_endpoint,
            "S3_ACCESS_KEY": s3.s3_access_key,
            "S3_SECRET_KEY": s3.s3_secret_key.get_secret_value(),
            "S3_BUCKET": s3.s3_bucket,
            "PERSONAL_SECRET": PERSONAL_SECRET,
        }


def start_backends(home: Path) -> Backends:
    """Start an instance's back ends, or find them running, and return their addresses."""
    instance = Instance(home, port_choice=PortChoice.ANY)
    stack = Stack(instance)
    stack.up(_NAMES)
    return Backends(stack, instance.env())


@asynccontextmanager
async def fresh_schema(backends: Backends) -> AsyncIterator[str]:
    """Yield the address of an empty schema with a role of its own; drop both after."""
    name = f"t_{secrets.token_hex(6)}"
    secret = secrets.token_hex(12)
    async with _admin(backends) as admin:
        await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{secret}'")
        await admin.execute(f"CREATE SCHEMA {name} AUTHORIZATION {name}")
        await admin.execute(f"ALTER ROLE {name} SET search_path = {name}")
    try:
        yield f"postgresql://{name}:{secret}@{backends.env['POSTGRES_ADDRESS']}/{_DATABASE}"
    finally:
        async with _admin(backends) as admin:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1",
                name,
            )
            await admin.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
            await admin.execute(f"DROP ROLE IF EXISTS {name}")


@asynccontextmanager
async def _admin(backends: Backends) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(backends.postgres_admin_dsn)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def migrated_pool(
    dsn: str, *, service: str = "test", migrations: Traversable | None = None
) -> AsyncIterator[Pool]:
    """Yield a pool on a schema that has the kit's tables and a service's."""
    pool = open_pool(dsn)
    await pool
    try:
        await migrate(pool, migrations, service=service)
        yield pool
    finally:
        async with asyncio.timeout(5):
            await pool.close()


async def make_topics(brokers: str, *topics: Topic) -> None:
    """Create topics as the provision job would, and return once their leaders are known."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        wanted = [_new(topic) for topic in topics]
        answer = await admin.create_topics(wanted)
        for name, code, *_ in answer.topic_errors:
            if code:
                raise for_code(code)(name)
        await until(lambda: _all_led(admin, [topic.name for topic in topics]))
    finally:
        await admin.close()


def fresh_topic(
    *, partitions: int = 1, compacted: bool = False, dead_letters: bool = True
) -> Topic:
    """Return a topic nobody else uses; create it with `make_topics`."""
    name = f"test.{secrets.token_hex(6)}.v1"
    return Topic(name, partitions=partitions, compacted=compacted, dead_letters=dead_letters)


@asynccontextmanager
async def fresh_bucket(store: S3Settings) -> AsyncIterator[Blobs]:
    """Yield an empty bucket."""
    blobs = Blobs(replace(store, s3_bucket=f"test-{secrets.token_hex(6)}"))
    await blobs.ensure_bucket()
    yield blobs


def _new(topic: Topic) -> NewTopic:
    policy = "compact" if topic.compacted else "delete"
    return NewTopic(topic.name, topic.partitions, 1, topic_configs={"cleanup.policy": policy})


async def _all_led(admin: AIOKafkaAdminClient, names: list[str]) -> bool:
    described = await admin.describe_topics(names)
    return all(
        not topic["error_code"]
        and all(not part["error_code"] and part["leader"] >= 0 for part in topic["partitions"])
        for topic in described
    )
