"""Requests become runs or do not, in real transactions."""

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gyral.contracts.deployment import RolloutAborted, RolloutCompleted
from gyral.contracts.training import Cause, RunRequested
from gyral.contracts.versions import VersionRejected
from gyral.testkit.events import delivered
from gyral.trainer.domain.admission import SKIP_COOLDOWN
from gyral.trainer.domain.runs import IllegalMoveError, State

from .conftest import AS_OF
from .world import World, a_world

pytestmark = pytest.mark.live
DAY = timedelta(days=1)


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    async with a_world(postgres_dsn) as opened:
        yield opened


async def test_a_request_made_twice_has_one_outcome(world: World):
    model = world.declare()
    asked = RunRequested(
        request_id=str(uuid.uuid4()), model=model, cause=Cause.BOOTSTRAP, as_of=AS_OF
    )
    for event_id in ("first", "first", "second"):
        await world.handlers.run_requested(delivered(asked, event_id))
    assert await world.said() == ["admitted"]


async def test_a_run_gets_its_job_when_both_streams_have_reached_its_time(world: World):
    run_id = await world.run_of(await world.request(world.declare(), Cause.BOOTSTRAP))
    await world.commit("rides", 0, AS_OF + DAY)
    await world.commit("ends", 0, AS_OF - DAY)
    assert await world.pool.fetchval("SELECT count(*) FROM job") == 0
    await world.commit("ends", 1, AS_OF)
    job_id = await world.pool.fetchval("SELECT job_id FROM run WHERE run_id = $1", run_id)
    assert job_id == await world.pool.fetchval("SELECT id FROM job")


async def test_a_run_whose_data_are_complete_is_queued_at_once(world: World):
    for stream in ("rides", "ends"):
        await world.commit(stream, 0)
    await world.request(world.declare(), Cause.MANUAL)
    assert await world.pool.fetchval("SELECT count(*) FROM job") == 1


@pytest.mark.parametrize("held", ["rides", "ends"])
async def test_a_run_waits_while_an_expectation_holds_its_rows_back(world: World, held):
    for stream in ("rides", "ends"):
        short = AS_OF - DAY if stream == held else None
        await world.commit(stream, 0, AS_OF + DAY, passed_until=short)
    run_id = await world.run_of(await world.request(world.declare(), Cause.BOOTSTRAP))
    assert await world.pool.fetchval("SELECT count(*) FROM job") == 0
    await world.commit(held, 0, AS_OF + DAY)
    job_id = await world.pool.fetchval("SELECT job_id FROM run WHERE run_id = $1", run_id)
    assert job_id == await world.pool.fetchval("SELECT id FROM job")


async def test_an_old_dataset_does_not_replace_a_newer_one(world: World):
    await world.commit("rides", 5, AS_OF)
    await world.commit("rides", 4, AS_OF - DAY)
    async with world.begin() as tx:
        newest = await tx.dataset("rides")
    assert newest is not None
    assert (newest.pin.version, newest.pin.watermark) == (5, AS_OF)


async def test_a_run_pins_what_its_datasets_were_announced_to_hold(world: World):
    await world.commit("rides", 4)
    await world.commit("rides", 5, content="0f" * 16, schema_version=2)
    async with world.begin() as tx:
        newest = await tx.dataset("rides")
    assert newest is not None
    assert (newest.pin.version, newest.pin.content) == (5, "0f" * 16)
    assert newest.pin.schema_version == 2


@pytest.mark.parametrize("event_type", [VersionRejected, RolloutCompleted, RolloutAborted])
async def test_a_flight_ends_when_the_version_is_rejected_or_its_rollout_ends(
    world: World, event_type
):
    model = world.declare()
    first = await world.request(model, Cause.BOOTSTRAP)
    run_id = await world.run_of(first)
    await world.finish(run_id, State.SUCCEEDED)
    assert await world.why(await world.request(model, Cause.MANUAL)) == "no_data"
    for stream in ("rides", "ends"):
        await world.commit(stream, 0)
    assert await world.why(await world.request(model, Cause.MANUAL)) == "in_flight"
    await _end(world, event_type, model, run_id, first)
    again = await world.request(model, Cause.MANUAL)
    assert await world.run_of(again) is not None


async def test_a_stale_verdict_is_admitted_before_and_after_its_rejection(world: World):
    for rejected_first in (True, False):
        model = world.declare()
        first = await world.request(model, Cause.BOOTSTRAP)
        run_id = await world.run_of(first)
        await world.finish(run_id, State.SUCCEEDED)
        if rejected_first:
            await _end(world, VersionRejected, model, run_id, first)
        redo = await world.request(model, Cause.STALE_VERDICT, run_id=run_id)
        assert await world.run_of(redo) is not None
        if not rejected_first:
            await _end(world, VersionRejected, model, run_id, first)
        assert await world.pool.fetchval(
            "SELECT count(*) FROM run WHERE model = $1 AND in_flight", model
        )


async def test_a_cancelled_run_is_over_and_its_job_with_it(world: World):
    for stream in ("rides", "ends"):
        await world.commit(stream, 0)
    run_id = await world.run_of(await world.request(world.declare(), Cause.BOOTSTRAP))
    run = await world.handlers.cancel(run_id, actor="ann", reason="wrong year")
    assert run is not None
    assert (run.state, run.in_flight, run.reason) == (State.CANCELLED, False, "wrong year")
    assert await world.pool.fetchval("SELECT state FROM job") == "cancelled"
    assert await world.said() == ["admitted", "cancelled"]
    with pytest.raises(IllegalMoveError):
        await world.handlers.cancel(run_id, actor="ann", reason="again")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(Cause), st.integers(0, 60)),
        st.tuples(st.just("finish"), st.sampled_from([State.SUCCEEDED, State.FAILED])),
        st.tuples(st.just("end"), st.sampled_from([VersionRejected, RolloutCompleted])),
        st.tuples(st.just("cancel")),
    ),
    max_size=15,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
async def test_whatever_happens_one_run_is_in_flight_and_every_request_has_one_outcome(
    world: World, steps
):
    for stream in ("rides", "ends"):
        await world.commit(stream, 0)
    model, asked, newest = world.declare(), 0, None
    for action, *arguments in steps:
        run_id = await world.pool.fetchval(
            "SELECT run_id FROM run WHERE model = $1 AND in_flight", model
        )
        if action == "ask":
            cause, days = arguments
            request_id = await world.request(model, cause, AS_OF + days * DAY)
            asked += 1
            admitted = await world.run_of(request_id)
            assert (admitted is None) == (await world.why(request_id) is not None)
            if admitted is not None:
                assert run_id is None
                if newest is not None and cause not in SKIP_COOLDOWN:
                    assert AS_OF + days * DAY >= newest + 14 * DAY
                newest = max(newest or AS_OF, AS_OF + days * DAY)
        elif run_id is not None:
            await _step(world, model, str(run_id), action, arguments)
        flying = await world.pool.fetchval(
            "SELECT count(*) FROM run WHERE model = $1 AND in_flight", model
        )
        assert flying <= 1
    outcomes = await world.pool.fetchval("SELECT count(*) FROM request WHERE model = $1", model)
    assert outcomes == asked


async def _step(world: World, model: str, run_id: str, action: str, arguments) -> None:
    async with world.begin() as tx:
        run = await tx.run(run_id)
    assert run is not None
    if action == "finish" and run.state is State.QUEUED:
        await world.finish(run_id, arguments[0])
    elif action == "end" and run.state is State.SUCCEEDED:
        await _end(world, arguments[0], model, run_id, run.request_id)
    elif action == "cancel" and run.state is State.QUEUED:
        await world.handlers.cancel(run_id, actor="ann", reason="chaos")


async def _end(world: World, event_type, model: str, run_id: str, request_id: str) -> None:
    said = {
        "as_of": AS_OF,
        "reasons": ["worse"],
        "epoch": 1,
        "stage": "shadow",
        "reason": "slow",
    }
    ids = {"model": model, "version": 1, "run_id": run_id, "request_id": request_id}
    event = delivered(event_type.model_validate(said | ids))
    if event_type is VersionRejected:
        await world.handlers.version_rejected(event)
    elif event_type is RolloutCompleted:
        await world.handlers.rollout_completed(event)
    else:
        await world.handlers.rollout_aborted(event)


async def test_runs_come_newest_first_page_by_page(world):
    model = world.declare()
    asked = []
    for number in range(3):
        request_id = await world.request(model, Cause.BOOTSTRAP, AS_OF + number * DAY)
        asked.append(request_id)
        await world.finish(await world.run_of(request_id), State.FAILED)
    async with world.begin() as tx:
        first = await tx.runs(model, after=None, limit=2)
        rest = await tx.runs(model, after=first[-1].run_id, limit=2)
        every = await tx.runs(None, after=None, limit=2)
    assert [run.request_id for run in (*first, *rest)] == asked[::-1]
    assert every == first
