"""Assembles validation."""

import os
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import resources

from gyral.contracts.access import AccessKeyChanged
from gyral.contracts.data import RecordSubmitted, StreamDeclared
from gyral.contracts.inference import PredictionLogged
from gyral.contracts.training import RunStarted
from gyral.contracts.versions import ModelDeclared
from gyral.kit.access import KeyRing
from gyral.kit.blobs import table_options
from gyral.kit.changes import Changes
from gyral.kit.dataplane import DataPlane
from gyral.kit.db import open_pool
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.kit.outbox import Relay
from gyral.kit.personal import PersonalKeys, require_the_same
from gyral.kit.projection import Projection
from gyral.kit.service import Periodic, Service
from gyral.kit.tx import begin
from gyral.validation.api import blocks, progress, quarantine
from gyral.validation.api import erasures as erasures_api
from gyral.validation.engine.ends import Ends
from gyral.validation.engine.lake import Lake
from gyral.validation.engine.ledger import Ledger
from gyral.validation.engine.measures import Outcomes
from gyral.validation.engine.outlet import Outlet
from gyral.validation.engine.parking import Parking
from gyral.validation.engine.schemas import Schemas
from gyral.validation.handlers.erasing import Erasing
from gyral.validation.handlers.forwarding import Forwarding
from gyral.validation.handlers.metrics import metrics
from gyral.validation.handlers.predictions import Predictions
from gyral.validation.handlers.records import Records
from gyral.validation.handlers.releasing import Release
from gyral.validation.handlers.replay import Replay
from gyral.validation.jobs import Jobs
from gyral.validation.settings import Settings
from gyral.validation.store.block_listings import BlockListings
from gyral.validation.store.erasures import Erasures, ErasureTx
from gyral.validation.store.listings import Listings
from gyral.validation.store.locks import Locks
from gyral.validation.store.lookups import Lookups
from gyral.validation.store.memory import Memory
from gyral.validation.store.pins import Pins
from gyral.validation.store.quarantine import Quarantine, QuarantineTx
from gyral.validation.store.sinks import SinkTx

NAME = "validation"
RECORDS = "validation.records"
PREDICTIONS = "validation.predictions"
ERASE_EVERY_S = 2.0


def build(settings: Settings) -> Service:
    """Return the service, made and not yet started."""
    brokers = settings.kafka_brokers
    pool = open_pool(settings.dsn, max_size=settings.database_connections)
    sinking = begin(pool, SinkTx, service=NAME)
    streams = Projection(brokers, StreamDeclared)
    models = Projection(brokers, ModelDeclared)
    keys = Projection(brokers, AccessKeyChanged)
    pins = Pins(pool)
    runs = Projection(brokers, RunStarted, on_change=_pinning(pins))
    ring = KeyRing(keys)
    changes = Changes()
    outcomes = Outcomes()
    counted = metrics()
    memory = Memory(pool, hours=settings.validation_remember_h, now_us=_now_us)
    lookups = Lookups(pool)
    personal = PersonalKeys(settings.personal_secret)
    schemas = Schemas(streams, personal)
    parking = Parking(schemas, personal)
    outlet = Outlet(brokers)
    ends = Ends(brokers)
    crash = _crash_at(settings.validation_crash_at)
    lake = Lake(
        f"s3://{settings.s3_bucket}/lake",
        table_options(settings),
        alone=Locks(settings.dsn).alone,
        compact_every=settings.validation_compact_every,
    )
    ledger = Ledger(lake, lookups.standing)
    forwarding = Forwarding(models, lookups, outlet, crash)
    records = Records(
        schemas=schemas,
        memory=memory,
        parking=parking,
        lake=lake,
        ledger=ledger,
        outlet=outlet,
        forwarding=forwarding,
        changes=changes,
        outcomes=outcomes,
        metrics=counted,
        now_us=_now_us,
        future_us=round(settings.validation_future_s * 1e6),
        crash=crash,
    )
    predictions = Predictions(models, streams, lookups, lake, outcomes, crash)
    jobs = Jobs(
        begin=sinking,
        schemas=schemas,
        memory=memory,
        lookups=lookups,
        lake=lake,
        ledger=ledger,
        outlet=outlet,
        ends=ends,
        changes=changes,
        metrics=counted,
        sink=RECORDS,
        now_us=_now_us,
        models=models,
        runs=runs,
        pins=pins,
        vacuum_after_h=settings.validation_vacuum_after_h,
    )
    replay = Replay(begin(pool, QuarantineTx, service=NAME), parking)
    health = Health(ready=[keys.ready, streams.ready, models.ready])
    erasures = Erasures(pool)
    erasing = Erasing(
        begin=begin(pool, ErasureTx, service=NAME),
        erasures=erasures,
        schemas=schemas,
        parking=parking,
        lake=lake,
        ledger=ledger,
        lookups=lookups,
        locks=Locks(settings.dsn),
        outlet=outlet,
        ends=ends,
        changes=changes,
        sink=RECORDS,
        crash=crash,
    )
    release = Release(sinking, schemas, outlet, lake, changes)
    routers = [
        progress.routes(Listings(pool), changes),
        quarantine.routes(Quarantine(pool), replay.run, parking),
        blocks.routes(BlockListings(pool), release.run),
        erasures_api.routes(erasing, erasures, personal),
    ]

    async def expire() -> None:
        await erasures.expire(settings.validation_parked_days)

    return Service(
        name=NAME,
        settings=settings,
        health=health,
        api=create_api(
            NAME, routers, keys=ring, health=health, projections=[streams, models, keys]
        ),
        pool=pool,
        migrations=resources.files("gyral.validation") / "migrations",
        on_start=[partial(require_the_same, pool, personal)],
        parts=[
            keys,
            streams,
            models,
            runs,
            Relay(pool, brokers),
            outlet,
            ends,
            DataPlane(
                brokers,
                group=RECORDS,
                topics=[RecordSubmitted.topic.name],
                begin=sinking,
                pool=pool,
                handle=records.batch,
                prepare=records.prepare,
                park=records.park,
                max_records=settings.validation_batch_records,
                max_wait_s=settings.validation_batch_wait_s,
                instance_id=settings.member(NAME),
            ),
            DataPlane(
                brokers,
                group=PREDICTIONS,
                topics=[PredictionLogged.topic.name],
                begin=sinking,
                pool=pool,
                handle=predictions.batch,
                max_records=settings.validation_batch_records,
                max_wait_s=settings.validation_predictions_wait_s,
                instance_id=settings.member(NAME),
            ),
            Periodic("announce missing", jobs.announce_missing, every_s=60.0),
            Periodic("forward", forwarding.run, every_s=5.0),
            Periodic("idle", jobs.advance_idle, every_s=settings.validation_idle_every_s),
            Periodic("retire", jobs.retire, every_s=settings.validation_retire_every_s),
            Periodic("vacuum", jobs.vacuum, every_s=settings.validation_vacuum_every_s),
            Periodic("forget", jobs.forget, every_s=settings.validation_forget_every_s),
            Periodic("erase", erasing.run, every_s=ERASE_EVERY_S),
            Periodic("expire", expire, every_s=3600.0),
        ],
    )


def _pinning(pins: Pins) -> Callable[[str, RunStarted | None], Awaitable[None]]:
    """Return what writes down the versions that runs begin with."""

    async def keep(_model: str, started: RunStarted | None) -> None:
        if started is not None:
            await pins.keep(started.datasets)

    return keep


def _now_us() -> int:
    return time.time_ns() // 1000


def _crash_at(point: str | None) -> Callable[[str], None]:
    """Return what ends this process as SIGKILL would, at one named point or never."""

    def crash(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    return crash
