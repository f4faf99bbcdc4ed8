"""Makes what services need before they start: roles, schemas, topics and the bucket."""

import asyncio
import os

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code
from minio import Minio

from gyral.contracts import catalogue
from gyral.contracts.events import Topic

SERVICES = ("ingestion", "validation", "trainer", "registry", "deployer", "monitor")
DATABASE = "gyral"
_TIMEOUT_S = 120


async def provision() -> None:
    """Make everything the environment's Postgres, Kafka and S3 lack."""
    async with asyncio.timeout(_TIMEOUT_S):
        await asyncio.gather(_database(), _topics(), asyncio.to_thread(_bucket))


async def _database() -> None:
    admin = os.environ["POSTGRES_ADMIN_URL"]
    first = await asyncpg.connect(admin)
    try:
        if not await first.fetchval(
            "SELECT true FROM pg_database WHERE datname = $1", DATABASE
        ):
            await first.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await first.close()
    connection = await asyncpg.connect(admin.rsplit("/", 1)[0] + f"/{DATABASE}")
    try:
        async with connection.transaction():
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtext('gyral.provision'))"
            )
            await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
            await _role(connection, "auditor", os.environ["AUDITOR_DATABASE_SECRET"])
            for service in SERVICES:
                await _role(
                    connection, service, os.environ[f"{service.upper()}_DATABASE_SECRET"]
                )
                await _schema(connection, service)
    finally:
        await connection.close()


async def _role(connection: asyncpg.Connection, name: str, secret: str) -> None:
    """Make a role that may log in, with this very secret."""
    if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", name):
        await connection.execute(f"CREATE ROLE {name} LOGIN")
    quoted: str = await connection.fetchval("SELECT quote_literal($1)", secret)
    await connection.execute(f"ALTER ROLE {name} PASSWORD {quoted}")
    await connection.execute(f"GRANT CONNECT ON DATABASE {DATABASE} TO {name}")


async def _schema(connection: asyncpg.Connection, service: str) -> None:
    """Make a service's schema, its own alone; the auditor reads what is in it now and later."""
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {service} AUTHORIZATION {service}")
    await connection.execute(f"ALTER ROLE {service} SET search_path = {service}")
    await connection.execute(f"GRANT USAGE ON SCHEMA {service} TO auditor")
    await connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {service} TO auditor")
    await connection.execute(
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {service} IN SCHEMA {service} "
        "GRANT SELECT ON TABLES TO auditor"
    )


async def _topics() -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=os.environ["KAFKA_BROKERS"])
    await admin.start()
    try:
        present = set(await admin.list_topics())
        wanted = [_new(topic) for topic in catalogue.topics() if topic.name not in present]
        if wanted:
            answer = await admin.create_topics(wanted)
            for name, code, *_ in answer.topic_errors:
                if code not in (0, TopicAlreadyExistsError.errno):
                    raise for_code(code)(name)
    finally:
        await admin.close()


def _new(topic: Topic) -> NewTopic:
    config = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "max.message.bytes": str(4 << 20),
    }
    if not topic.compacted:
        config["retention.ms"] = str(topic.retention_hours * 3_600_000)
    return NewTopic(topic.name, topic.partitions, 1, topic_configs=config)


def _bucket() -> None:
    client = Minio(
        os.environ["S3_ENDPOINT"].removeprefix("http://"),
        access_key=os.environ["S3_ACCESS_KEY"],
        secret_key=os.environ["S3_SECRET_KEY"],
        secure=False,
        region="us-east-1",
    )
    if not client.bucket_exists(os.environ["S3_BUCKET"]):
        client.make_bucket(os.environ["S3_BUCKET"])


if __name__ == "__main__":
    asyncio.run(provision())
