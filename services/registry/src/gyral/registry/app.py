"""Assembles the registry."""

import os
import uuid
from datetime import UTC, datetime

from gyral.contracts.data import DatasetCommitted
from gyral.contracts.deployment import (
    RolloutAborted,
    RolloutCompleted,
    RolloutSteered,
    RoutePinned,
)
from gyral.contracts.monitoring import QualityDropped
from gyral.contracts.training import RunCancelled, RunFailed, RunSucceeded, RunSuppressed
from gyral.kit.assembly import Ground
from gyral.kit.blobs import Blobs
from gyral.kit.service import Service
from gyral.registry.api import Desk, audit, keys, specs, versions
from gyral.registry.engine import Evidence
from gyral.registry.handlers import Handlers
from gyral.registry.jobs import FirstKey
from gyral.registry.settings import Settings
from gyral.registry.store import RegistryTx


def build(settings: Settings) -> Service:
    """Return the service, made and not yet started."""
    ground = Ground.of("registry", settings, RegistryTx)
    begin, changes = ground.begin, ground.changes
    handlers = Handlers(begin, Evidence(Blobs(settings)), _now, _new_id, changes)
    bus = ground.bus()
    bus.on(RunSucceeded, handlers.run_succeeded)
    bus.on(RunFailed, handlers.run_failed)
    bus.on(RunCancelled, handlers.run_cancelled)
    bus.on(RunSuppressed, handlers.run_suppressed)
    bus.on(RolloutCompleted, handlers.rollout_completed)
    bus.on(RolloutAborted, handlers.rollout_aborted)
    bus.on(RolloutSteered, handlers.rollout_steered)
    bus.on(RoutePinned, handlers.route_pinned)
    bus.on(QualityDropped, handlers.quality_dropped)
    bus.on(DatasetCommitted, handlers.dataset_committed)
    desk = Desk(begin, _now, _new_id, os.urandom, changes)
    first_key = FirstKey(begin, settings.registry_admin_key.get_secret_value(), _now)
    return ground.service(
        [room.routes(desk) for room in (specs, versions, keys, audit)],
        [bus],
        on_start=[first_key.issue],
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return str(uuid.uuid4())
