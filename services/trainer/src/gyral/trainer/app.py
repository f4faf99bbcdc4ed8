"""Assembles the trainer."""

import json

from gyral.contracts.data import DatasetCommitted, StreamDeclared
from gyral.contracts.deployment import RolloutAborted, RolloutCompleted
from gyral.contracts.training import RunRequested
from gyral.contracts.versions import ChampionChanged, ModelDeclared, VersionRejected
from gyral.kit.assembly import Ground
from gyral.kit.blobs import Blobs, table_options
from gyral.kit.bus import Bus
from gyral.kit.leases import Jobs, Worker
from gyral.kit.projection import Projection
from gyral.kit.service import Service
from gyral.trainer import api
from gyral.trainer.engine.child import Trainers
from gyral.trainer.handlers import Handlers
from gyral.trainer.jobs import Training
from gyral.trainer.settings import Settings
from gyral.trainer.store import TrainerTx

NAME = "trainer"


def build(settings: Settings) -> Service:
    """Return the service, made and not yet started."""
    ground = Ground.of(NAME, settings, TrainerTx)
    brokers = settings.kafka_brokers
    models = Projection(brokers, ModelDeclared)
    streams = Projection(brokers, StreamDeclared)
    champions = Projection(brokers, ChampionChanged)
    jobs = Jobs(ground.pool, "train", max_attempts=settings.trainer_attempts)
    trainers = Trainers(
        threads=settings.trainer_threads,
        table_options=json.dumps(dict(table_options(settings))),
        time_limit_s=settings.trainer_time_limit_s,
    )
    training = Training(
        begin=ground.begin,
        jobs=jobs,
        trainers=trainers,
        blobs=Blobs(settings),
        streams=streams,
        champions=champions,
        changes=ground.changes,
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

    handlers = Handlers(
        begin=ground.begin, declared=declared, jobs=jobs, changes=ground.changes
    )
    return ground.service(
        [api.routes(ground.begin, handlers, ground.changes)],
        [trainers, *workers, _bus(ground, handlers)],
        projections=[models, streams, champions],
        on_start=[training.clear_scratch],
    )


def _bus(ground: Ground[TrainerTx], handlers: Handlers) -> Bus:
    """Return the bus with every event the trainer reacts to."""
    bus = ground.bus()
    bus.on(RunRequested, handlers.run_requested)
    bus.on(DatasetCommitted, handlers.dataset_committed)
    bus.on(VersionRejected, handlers.version_rejected)
    bus.on(RolloutCompleted, handlers.rollout_completed)
    bus.on(RolloutAborted, handlers.rollout_aborted)
    return bus
