"""Assembles the trainer."""

import json
from importlib import resources

from gyral.contracts.access import AccessKeyChanged
from gyral.contracts.data import DatasetCommitted, StreamDeclared
from gyral.contracts.deployment import RolloutAborted, RolloutCompleted
from gyral.contracts.training import RunRequested
from gyral.contracts.versions import ChampionChanged, ModelDeclared, VersionRejected
from gyral.kit.access import KeyRing
from gyral.kit.blobs import Blobs, table_options
from gyral.kit.bus import Bus
from gyral.kit.changes import Changes
from gyral.kit.db import Pool, open_pool
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.kit.leases import Jobs, Worker
from gyral.kit.outbox import Relay
from gyral.kit.projection import Projection
from gyral.kit.service import Service
from gyral.kit.tx import begin
from gyral.trainer import api
from gyral.trainer.engine.child import Trainers
from gyral.trainer.handlers import Handlers
from gyral.trainer.jobs import Training
from gyral.trainer.settings import Settings
from gyral.trainer.store import TrainerTx

NAME = "trainer"


def build(settings: Settings) -> Service:
    """Return the service, made and not yet started."""
    brokers = settings.kafka_brokers
    pool = open_pool(settings.dsn, max_size=settings.database_connections)
    opened = begin(pool, TrainerTx, service=NAME)
    keys = Projection(brokers, AccessKeyChanged)
    models = Projection(brokers, ModelDeclared)
    streams = Projection(brokers, StreamDeclared)
    champions = Projection(brokers, ChampionChanged)
    projections = (keys, models, streams, champions)
    jobs = Jobs(pool, "train", max_attempts=settings.trainer_attempts)
    changes = Changes()
    trainers = Trainers(
        threads=settings.trainer_threads,
        table_options=json.dumps(dict(table_options(settings))),
        time_limit_s=settings.trainer_time_limit_s,
    )
    training = Training(
        begin=opened,
        jobs=jobs,
        trainers=trainers,
        blobs=Blobs(settings),
        streams=streams,
        champions=champions,
        changes=changes,
        scratch=settings.state_dir / "scratch",
        memory_bytes=settings.trainer_memory_bytes,
    )
    workers = [
        Worker(
            jobs,
            training.run,
            name=f"{settings.member(NAME)}/{number}",
            lease_s=settings.trainer_lease_s,
            on_exhausted=training.give_up,
        )
        for number in range(settings.trainer_workers)
    ]

    async def declared(model: str, generation: int) -> ModelDeclared | None:
        """Look again when a request knows more than we do."""
        if (models.generation(model) or 0) < generation:
            await models.refresh()
        return models.get(model)

    handlers = Handlers(begin=opened, declared=declared, jobs=jobs, changes=changes)
    health = Health(ready=[projection.ready for projection in projections])
    return Service(
        name=NAME,
        settings=settings,
        health=health,
        api=create_api(
            NAME,
            [api.routes(opened, handlers, changes)],
            keys=KeyRing(keys),
            health=health,
            projections=projections,
        ),
        parts=[
            *projections,
            Relay(pool, brokers),
            trainers,
            *workers,
            _bus(settings, pool, handlers),
        ],
        pool=pool,
        migrations=resources.files("gyral.trainer") / "migrations",
        on_start=[training.clear_scratch],
    )


def _bus(settings: Settings, pool: Pool, handlers: Handlers) -> Bus:
    """Return the bus with every event the trainer reacts to."""
    bus = Bus(
        settings.kafka_brokers, service=NAME, pool=pool, instance_id=settings.member(NAME)
    )
    bus.on(RunRequested, handlers.run_requested)
    bus.on(DatasetCommitted, handlers.dataset_committed)
    bus.on(VersionRejected, handlers.version_rejected)
    bus.on(RolloutCompleted, handlers.rollout_completed)
    bus.on(RolloutAborted, handlers.rollout_aborted)
    return bus
