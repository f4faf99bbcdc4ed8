"""Leased work beside what else happens to its run, in real transactions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gyral.contracts.data import StreamDeclared
from gyral.contracts.specs.stream import StreamSpec
from gyral.contracts.training import RunProgressed
from gyral.contracts.versions import ChampionChanged
from gyral.kit.changes import Changes
from gyral.kit.db import open_pool
from gyral.kit.leases import Lost
from gyral.kit.tx import begin
from gyral.testkit.projections import MemoryProjection
from gyral.testkit.waiting import until
from gyral.trainer.domain.runs import State
from gyral.trainer.engine.child import Trainers
from gyral.trainer.engine.order import Progress
from gyral.trainer.jobs import ProgressReporter, Training
from gyral.trainer.store import TrainerTx

from .conftest import ENDS, RIDES
from .world import World, a_world

pytestmark = pytest.mark.live
WAITING = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
HALF = Progress(stage="fold 1", share=0.5)


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    async with a_world(postgres_dsn) as opened:
        yield opened


async def test_a_training_goes_on_while_nobody_can_be_told_how_far_it_is(world: World):
    run, job = await world.claimed()
    async with open_pool("postgresql://nobody@127.0.0.1:1/gyral") as away:
        silent = begin(away, TrainerTx, service="trainer")
        await ProgressReporter(silent, job, run).report(HALF)
    assert "progressed" not in await world.said()
    await ProgressReporter(world.begin, job, run).report(HALF)
    assert (await world.said())[-1] == "progressed"
    async with world.begin() as tx:
        found = await tx.run(run.run_id)
    assert found is not None
    assert (found.stage, found.share) == ("fold 1", 0.5)


async def test_what_is_trained_is_kept_while_postgres_is_away_at_its_end(
    world: World, tables, blobs, tmp_path
):
    run, job = await world.claimed()
    for table in tables:
        on_disk = "UPDATE dataset SET table_uri = $2 WHERE stream = $1"
        await world.pool.execute(on_disk, table.stream, table.uri)
    streams = MemoryProjection(StreamDeclared)
    for name, body in (("rides", RIDES), ("ends", ENDS)):
        await streams.put(StreamDeclared(name=name, generation=1, spec=a_stream(name, body)))
    away = iter([True, True])

    @asynccontextmanager
    async def opened() -> AsyncIterator[TrainerTx]:
        trained = any(tmp_path.rglob("evaluation.json"))
        if trained and next(away, False):
            raise ConnectionRefusedError("postgres is away")
        async with world.begin() as tx:
            yield tx

    trainers = Trainers(threads=1, table_options="{}", time_limit_s=300)
    training = Training(
        begin=opened,
        jobs=world.jobs,
        trainers=trainers,
        blobs=blobs,
        streams=streams,
        champions=MemoryProjection(ChampionChanged),
        changes=Changes(),
        scratch=tmp_path,
        memory_bytes=None,
    )
    try:
        await training.run(job)
    finally:
        await trainers.stop()
    assert next(away, None) is None
    said = await world.said()
    assert (said[-1], said.count("started")) == ("succeeded", 1)
    async with world.begin() as tx:
        ended = await tx.run(run.run_id)
    assert ended is not None
    assert ended.state is State.SUCCEEDED


def a_stream(name, body):
    return StreamSpec.model_validate(
        {
            "apiVersion": "gyral/v1",
            "kind": "Stream",
            "metadata": {"name": name},
            "spec": body.model_dump(),
        }
    )


async def test_a_run_is_cancelled_while_its_worker_writes_and_neither_fails(world: World):
    """Both take the job before the run; in different orders one would end as a deadlock."""
    run, job = await world.claimed()
    async with world.begin() as worker:
        await worker.hold(job)
        cancelling = asyncio.create_task(
            world.handlers.cancel(run.run_id, actor="ann", reason="wrong year")
        )
        await until(lambda: world.pool.fetchval(WAITING))
        await worker.progress(run.run_id, "fold 1", 0.5)
    ended = await cancelling
    assert ended is not None
    assert (ended.state, ended.in_flight) == (State.CANCELLED, False)


async def test_a_training_ends_once_its_run_is_cancelled(world: World):
    run, job = await world.claimed()
    await world.handlers.cancel(run.run_id, actor="ann", reason="wrong year")
    with pytest.raises(Lost):
        await ProgressReporter(world.begin, job, run).report(HALF)
    topic = RunProgressed.topic.name
    assert not await world.pool.fetchval("SELECT count(*) FROM outbox WHERE topic = $1", topic)
