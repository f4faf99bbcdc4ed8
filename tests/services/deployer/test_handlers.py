"""Rollouts against real Postgres.

Counted once, judged at markers, published with a growing epoch.
"""

import json

import pytest

from gyral.contracts.deployment import (
    RolloutAborted,
    RolloutAdvanced,
    RolloutCompleted,
    RolloutStarted,
    RouteChanged,
)
from gyral.deployer.domain.rollouts import Stage
from gyral.deployer.engine.groups import Groups
from gyral.deployer.jobs.preparing import Preparation
from gyral.deployer.store.transitions import Override
from gyral.kit.changes import Changes
from gyral.kit.jobs import Jobs
from tests.services.deployer.builders import KnownSpecs, Record, answer, approved, nobody_wakes
from tests.services.registry.builders import NOW, REQUEST

pytestmark = pytest.mark.live


async def test_a_first_version_serves_alone_and_completes(deployer):
    await deployer.live(1, bootstrap=True)
    [route] = await deployer.published(RouteChanged)
    assert [(share.version, share.weight) for share in route.shares] == [(1, 100)]
    assert len(await deployer.published(RolloutStarted)) == 1
    assert len(await deployer.published(RolloutCompleted)) == 1


async def test_an_approval_delivered_twice_begins_one_rollout(deployer):
    event = approved(1, bootstrap=True)
    await deployer.handlers.version_approved(event)
    await deployer.handlers.version_approved(event)
    assert await deployer.pool.fetchval("SELECT count(*) FROM rollout") == 1
    assert await deployer.pool.fetchval("SELECT count(*) FROM job") == 2


async def test_a_version_approved_during_a_rollout_is_taken_back_once_and_said_so(deployer):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    routes = await deployer.published(RouteChanged)
    late = approved(3)
    await deployer.handlers.version_approved(late)
    await deployer.handlers.version_approved(late)
    [aborted] = await deployer.published(RolloutAborted)
    assert (aborted.version, aborted.run_id, aborted.request_id) == (3, late.run_id, REQUEST)
    assert aborted.reason == "expected no rollout under way; found version 2"
    assert (await deployer.stage(3)).stage is Stage.ABORTED
    assert (await deployer.stage(2)).stage is Stage.SHADOW
    async with deployer.opened() as tx:
        newest = await tx.rollouts("churn", after=None, limit=2)
        oldest = await tx.rollouts("churn", after=newest[-1].version, limit=2)
    assert [it.version for it in (*newest, *oldest)] == [3, 2, 1]
    assert await deployer.published(RouteChanged) == routes
    assert await deployer.pool.fetchval("SELECT count(*) FROM job") == 4


async def test_a_version_approved_while_the_first_one_warms_up_is_taken_back(deployer):
    await deployer.handlers.version_approved(approved(1, bootstrap=True))
    await deployer.handlers.version_approved(approved(2, bootstrap=True))
    [aborted] = await deployer.published(RolloutAborted)
    assert (aborted.version, aborted.epoch) == (2, 1)
    assert (await deployer.stage(1)).stage is Stage.WARMING


@pytest.mark.parametrize(
    ("late", "rival"),
    [(approved(3, against=1), "version 1"), (approved(3, bootstrap=True), "no version")],
)
async def test_a_version_judged_against_another_than_the_one_that_answers_is_taken_back(
    deployer, late, rival
):
    """Its success and the end of the rollout before it are news of two topics, in any order."""
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    await deployer.promote(2)
    routes = await deployer.published(RouteChanged)
    await deployer.handlers.version_approved(late)
    [aborted] = await deployer.published(RolloutAborted)
    assert (aborted.version, aborted.run_id, aborted.stage) == (3, late.run_id, "aborted")
    assert aborted.reason == (
        f"expected {rival} to answer, as when it was judged; found version 2"
    )
    assert await deployer.published(RouteChanged) == routes
    await deployer.handlers.version_approved(approved(4, against=2))
    assert (await deployer.stage(4)).stage is Stage.WARMING


async def test_an_approval_repeated_under_another_id_changes_nothing(deployer):
    await deployer.live(1, bootstrap=True)
    await deployer.handlers.version_approved(approved(1, bootstrap=True))
    assert (await deployer.stage(1)).stage is Stage.COMPLETED
    assert await deployer.published(RolloutAborted) == []


async def test_a_rollout_goes_from_shadow_to_all_by_what_was_answered(deployer):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    shadow = [answer(n, version=1, epoch=2) for n in range(5)]
    shadow += [answer(n, version=2, epoch=2, role="shadow") for n in range(5)]
    await deployer.log(*shadow)
    assert (await deployer.stage(2)).stage is Stage.SHADOW
    await deployer.log(day=1)
    assert (await deployer.stage(2)).stage is Stage.CANARY
    first = [answer(100 + n, version=1 if n else 2, epoch=3) for n in range(20)]
    await deployer.log(*first, day=2)
    second = [answer(200 + n, version=1 if n % 4 else 2, epoch=4) for n in range(20)]
    await deployer.log(*second, day=3)
    assert (await deployer.stage(2)).stage is Stage.COMPLETED
    routes = await deployer.published(RouteChanged)
    assert [route.epoch for route in routes] == [1, 2, 3, 4, 5]
    assert [share.weight for share in routes[-1].shares] == [0, 100]
    assert [step.weight for step in await deployer.published(RolloutAdvanced)] == [5, 25, 100]


async def test_on_a_wall_clock_a_version_takes_over_as_of_now(wall_deployer):
    """Without, the registry would date its reign from its training."""
    deployer = wall_deployer
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    for epoch, first in ((2, 0), (3, 100), (4, 200)):
        shadow = {"role": "shadow"} if epoch == 2 else {}
        await deployer.log(
            *(answer(first + n, version=1, epoch=epoch) for n in range(10)),
            *(answer(first + 50 + n, version=2, epoch=epoch, **shadow) for n in range(10)),
        )
    assert (await deployer.stage(2)).stage is Stage.COMPLETED
    completed = await deployer.published(RolloutCompleted)
    assert [(it.version, it.as_of) for it in completed] == [(1, NOW), (2, NOW)]
    assert {step.as_of for step in await deployer.published(RolloutAdvanced)} == {NOW}


async def test_a_request_logged_twice_counts_once(deployer):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    again = [answer(n % 2, version=1, epoch=2) for n in range(20)]
    again += [answer(n % 2, version=2, epoch=2, role="shadow") for n in range(20)]
    await deployer.log(*again, day=1)
    assert (await deployer.stage(2)).stage is Stage.SHADOW


async def test_a_candidate_that_fails_is_taken_back_and_the_champion_answers_alone(deployer):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    await deployer.log(
        answer(1, version=1, epoch=2),
        answer(1, version=2, epoch=2, role="shadow", failed=True),
        day=1,
    )
    [aborted] = await deployer.published(RolloutAborted)
    assert "error rate" in aborted.reason
    route = (await deployer.published(RouteChanged))[-1]
    assert [(share.version, share.weight) for share in route.shares] == [(1, 100)]


async def test_bytes_that_are_no_prediction_stop_nothing(deployer):
    await deployer.live(1, bootstrap=True)
    await deployer.log(b"\xff", b"{}", b'{"model": 3}', day=1)
    assert await deployer.stored(0) == 4


@pytest.mark.parametrize(
    "column",
    [
        {"entity_keys": None},
        {"entity_keys": [1, 2]},
        {"entity_keys": ["\ud800"]},
        {"request_id": "not-a-uuid"},
        {"version": 1 << 31},
        {"latency_us": 1 << 63},
        {"probabilities": [1.7e308] * 2},
    ],
    ids="-".join,
)
async def test_a_prediction_that_no_gateway_writes_stops_nothing(deployer, column):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    strange = json.loads(answer(1, version=1, epoch=2)) | column
    await deployer.log(json.dumps(strange).encode(), answer(2, version=1, epoch=2), day=1)
    assert await deployer.stored(0) == 3
    seen = "SELECT count(*) FROM observation WHERE request_id = $1"
    assert await deployer.pool.fetchval(seen, f"00000000-0000-4000-8000-{2:012d}") == 1


async def test_a_marker_before_the_first_year_stops_nothing(deployer):
    early = json.dumps({"subject": "churn", "event_time": "0001-01-01T00:00:00+23:59"})
    kind = "data.watermark.advanced.v1"
    await deployer.deliver(0, (Record(0, early.encode(), kind),), None)
    assert await deployer.stored(0) == 1


async def test_a_canary_whose_answers_others_had_to_give_is_taken_back(deployer):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    shadow = [answer(n, version=1, epoch=2) for n in range(5)]
    shadow += [answer(n, version=2, epoch=2, role="shadow") for n in range(5)]
    await deployer.log(*shadow, day=1)
    stood_in = [answer(100 + n, version=1, epoch=3) for n in range(20)]
    failed = [answer(100, version=2, epoch=3, role="shadow", failed=True)]
    await deployer.log(*stood_in, *failed, day=2)
    [aborted] = await deployer.published(RolloutAborted)
    assert "error rate" in aborted.reason


async def test_a_promotion_by_hand_says_who_and_why(deployer):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    await deployer.promote(2, by=Override("ann", "seen enough"))
    *_, completed = await deployer.published(RolloutCompleted)
    assert (completed.version, completed.actor, completed.reason) == (2, "ann", "seen enough")


async def test_a_preparation_without_attempts_left_ends_with_its_rollout(deployer):
    """Without an end of its own the job would be claimed again at each lease, for ever."""
    await deployer.handlers.version_approved(approved(1, bootstrap=True))
    jobs = Jobs(deployer.pool, "prepare")
    prepare = Preparation(
        deployer.opened, jobs, Groups(), KnownSpecs(), nobody_wakes, lambda: NOW, Changes()
    )
    job = await jobs.claim("worker", 30)
    assert job is not None
    await prepare.gave_up(job, "ValueError: no attempt helps")
    [aborted] = await deployer.published(RolloutAborted)
    assert aborted.reason == "preparation: ValueError: no attempt helps"
    state = "SELECT state FROM job WHERE kind = 'prepare'"
    assert await deployer.pool.fetchval(state) == "failed"
