"""Assembles ingestion."""

import uuid
from datetime import UTC, datetime, timedelta
from importlib import resources

from gyral.contracts.access import AccessKeyChanged
from gyral.contracts.data import StreamDeclared
from gyral.ingestion import api
from gyral.ingestion.engine.log import RecordLog
from gyral.ingestion.handlers import Handlers, Limits
from gyral.ingestion.settings import Settings
from gyral.ingestion.store import Submissions
from gyral.kit.access import KeyRing
from gyral.kit.db import open_pool
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.kit.projection import Projection
from gyral.kit.service import Periodic, Service

PURGE_EVERY_S = 600.0


def build(settings: Settings) -> Service:
    """Return the service, made and not yet started."""
    pool = open_pool(settings.dsn, max_size=settings.database_connections)
    streams = Projection(settings.kafka_brokers, StreamDeclared)
    keys = Projection(settings.kafka_brokers, AccessKeyChanged)
    ring = KeyRing(keys)
    log = RecordLog(settings.kafka_brokers, wait_s=settings.ingestion_kafka_wait_s)
    submissions = Submissions(pool)
    health = Health(ready=[streams.ready, keys.ready])
    reactions = Handlers(
        streams=streams,
        log=log,
        submissions=submissions,
        limits=Limits(
            settings.ingestion_max_rows, timedelta(seconds=settings.ingestion_future_s)
        ),
        now=lambda: datetime.now(UTC),
        new_id=lambda: str(uuid.uuid4()),
    )
    router = api.routes(
        reactions,
        max_bytes=settings.ingestion_max_body_bytes,
        max_inflated_bytes=settings.ingestion_max_inflated_bytes,
        max_in_flight=settings.ingestion_max_in_flight,
    )

    async def purge() -> None:
        await submissions.purge(settings.ingestion_idempotency_h)

    return Service(
        name="ingestion",
        settings=settings,
        health=health,
        api=create_api(
            "ingestion", [router], keys=ring, health=health, projections=[streams, keys]
        ),
        parts=[keys, streams, log, Periodic("purge", purge, every_s=PURGE_EVERY_S)],
        pool=pool,
        migrations=resources.files("gyral.ingestion") / "migrations",
    )
