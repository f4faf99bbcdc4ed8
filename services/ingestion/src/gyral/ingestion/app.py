"""Assembles ingestion."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import resources

from gyral.contracts.access import AccessKeyChanged
from gyral.contracts.data import StreamDeclared
from gyral.ingestion import api
from gyral.ingestion.engine.bodies import Limits
from gyral.ingestion.engine.log import RecordLog
from gyral.ingestion.engine.metrics import metrics, observe_spool
from gyral.ingestion.handlers.outlet import Outlet, SpoolingOutlet
from gyral.ingestion.handlers.requests import Handlers
from gyral.ingestion.jobs import Drain
from gyral.ingestion.settings import Settings, WhenKafkaIsAway
from gyral.ingestion.store.spool import Spool
from gyral.ingestion.store.submissions import Submissions
from gyral.kit.access import KeyRing
from gyral.kit.db import open_pool
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.kit.personal import PersonalKeys, require_the_same
from gyral.kit.projection import Projection
from gyral.kit.service import Part, Periodic, Service

PURGE_EVERY_S = 600.0
TRACE_ONE_IN = 100


def build(settings: Settings) -> Service:
    """Return the service, made and not yet started."""
    pool = open_pool(settings.dsn, max_size=settings.database_connections)
    streams = Projection(settings.kafka_brokers, StreamDeclared)
    keys = Projection(settings.kafka_brokers, AccessKeyChanged)
    instruments = metrics()
    log = RecordLog(
        settings.kafka_brokers, wait_s=settings.ingestion_kafka_wait_s, metrics=instruments
    )
    outlet, draining = _outlet(settings, log)
    submissions = Submissions(pool)
    personal = PersonalKeys(settings.personal_secret)
    health = Health(ready=[streams.ready, keys.ready])
    reactions = Handlers(
        streams=streams,
        outlet=outlet,
        submissions=submissions,
        limits=Limits(settings.ingestion_max_rows, settings.ingestion_max_inflated_bytes),
        future=timedelta(seconds=settings.ingestion_future_s),
        personal=personal,
        metrics=instruments,
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

    purging = Periodic("purge", purge, every_s=PURGE_EVERY_S)
    return Service(
        name="ingestion",
        settings=settings,
        health=health,
        api=create_api(
            "ingestion",
            [router],
            keys=KeyRing(keys),
            health=health,
            projections=[streams, keys],
            trace_one_in=TRACE_ONE_IN,
        ),
        # The spool is open before anybody can be let in, and closed after the last has left.
        parts=[log, *draining, keys, streams, purging],
        pool=pool,
        migrations=resources.files("gyral.ingestion") / "migrations",
        on_start=[partial(require_the_same, pool, personal)],
    )


def _outlet(settings: Settings, log: RecordLog) -> tuple[Outlet, Sequence[Part]]:
    match settings.ingestion_when_kafka_is_away:
        case WhenKafkaIsAway.REFUSE:
            return Outlet(log), ()
        case WhenKafkaIsAway.SPOOL:
            spool = Spool(
                settings.state_dir / "spool", max_bytes=settings.ingestion_spool_bytes
            )
            observe_spool(lambda: spool.pending_bytes)
            outlet = SpoolingOutlet(log, spool)
            return outlet, (Drain(spool, outlet),)
