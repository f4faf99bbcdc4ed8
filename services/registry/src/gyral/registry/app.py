"""Assembles the registry."""

import os
import uuid
from datetime import UTC, datetime
from importlib import resources

from gyral.contracts.access import AccessKeyChanged
from gyral.contracts.data import DatasetCommitted
from gyral.contracts.deployment import RolloutAborted, RolloutCompleted
from gyral.contracts.monitoring import QualityDropped
from gyral.contracts.training import RunCancelled, RunFailed, RunSucceeded, RunSuppressed
from gyral.kit.access import KeyRing
from gyral.kit.blobs import Blobs
from gyral.kit.bus import Bus
from gyral.kit.changes import Changes
from gyral.kit.db import open_pool
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.kit.outbox import Relay
from gyral.kit.projection import Projection
from gyral.kit.service import Service
from gyral.kit.tx import begin
from gyral.registry.api import Desk, audit, keys, specs, versions
from gyral.registry.engine import Evidence
from gyral.registry.handlers import Handlers
from gyral.registry.jobs import FirstKey
from gyral.registry.settings import Settings
from gyral.registry.store import RegistryTx

NAME = "registry"


def build(settings: Settings) -> Service:
    """Return the service, made and not yet started."""
    pool = open_pool(settings.dsn, max_size=settings.database_connections)
    opened = begin(pool, RegistryTx, service=NAME)
    access = Projection(settings.kafka_brokers, AccessKeyChanged)
    changes = Changes()
    bus = Bus(
        settings.kafka_brokers, service=NAME, pool=pool, instance_id=settings.member(NAME)
    )
    handlers = Handlers(opened, Evidence(Blobs(settings)), _now, _new_id, changes)
    bus.on(RunSucceeded, handlers.run_succeeded)
    bus.on(RunFailed, handlers.run_failed)
    bus.on(RunCancelled, handlers.run_cancelled)
    bus.on(RunSuppressed, handlers.run_suppressed)
    bus.on(RolloutCompleted, handlers.rollout_completed)
    bus.on(RolloutAborted, handlers.rollout_aborted)
    bus.on(QualityDropped, handlers.quality_dropped)
    bus.on(DatasetCommitted, handlers.dataset_committed)
    desk = Desk(opened, _now, _new_id, os.urandom, changes)
    health = Health(ready=[access.ready])
    return Service(
        name=NAME,
        settings=settings,
        health=health,
        api=create_api(
            NAME,
            [room.routes(desk) for room in (specs, versions, keys, audit)],
            keys=KeyRing(access),
            health=health,
            projections=[access],
        ),
        pool=pool,
        migrations=resources.files("gyral.registry") / "migrations",
        on_start=[FirstKey(opened, settings.registry_admin_key.get_secret_value(), _now).issue],
        parts=[access, Relay(pool, settings.kafka_brokers), bus],
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return str(uuid.uuid4())
