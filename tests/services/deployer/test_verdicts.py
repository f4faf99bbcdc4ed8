"""Verdicts on real Postgres: scores on the same requests, time, approval, experiments."""

from datetime import timedelta

import pytest

from gyral.contracts.deployment import RolloutAborted, RolloutSteered, RouteChanged
from gyral.deployer.domain.rollouts import Stage
from gyral.deployer.domain.samples import KEPT_WHOLE, Step
from tests.services.deployer.builders import answer
from tests.services.deployer.test_api import calling, order
from tests.services.registry.builders import NOW

pytestmark = pytest.mark.live


async def second(deployer):
    """A second version in its shadow."""
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    return deployer


def pairs(count, *, score, first=0, keys=None):
    """One row a request, answered by both versions."""
    for number in range(first, first + count):
        key = None if keys is None else f"k{number % keys}"
        yield answer(number, version=1, epoch=2, rows=1, key=key)
        yield answer(number, version=2, epoch=2, role="shadow", rows=1, score=score, key=key)


async def test_scores_far_from_the_champions_on_the_same_requests_end_a_shadow(deployer_with):
    deployer = await second(await deployer_with(shadow=10_000))
    await deployer.log(*pairs(120, score=0.9))
    [aborted] = await deployer.published(RolloutAborted)
    assert aborted.reason.startswith("scores: expected a mean within 0.3 of the champion's")
    assert aborted.measured["score_shift_lower"] == pytest.approx(0.4)


async def test_few_entities_asked_about_often_say_nothing_of_scores(deployer_with):
    deployer = await second(await deployer_with(shadow=10_000))
    await deployer.log(*pairs(300, score=0.9, keys=10))
    assert (await deployer.stage(2)).stage is Stage.SHADOW


async def test_a_step_nobody_asks_about_is_taken_back_when_its_time_is_over(deployer_with):
    deployer = await second(await deployer_with(step_limit="2h"))
    await deployer.handlers.time_passed()
    deployer.now = NOW + timedelta(hours=2)
    await deployer.handlers.time_passed()
    assert (await deployer.stage(2)).stage is Stage.SHADOW
    deployer.now += timedelta(seconds=1)
    await deployer.handlers.time_passed()
    [aborted] = await deployer.published(RolloutAborted)
    assert (aborted.reason, aborted.actor) == (
        "time: expected 500 rows within 2h; found 0",
        "deployer",
    )


async def test_only_the_time_a_step_is_held_does_not_count(deployer_with):
    deployer = await second(await deployer_with(step_limit="2h"))
    await deployer.handlers.time_passed()
    async with calling(deployer) as client:
        for _ in range(2):
            deployer.now += timedelta(hours=1)
            await order(client, 2, "pause")
            deployer.now += timedelta(hours=3)
            await deployer.handlers.time_passed()
            await order(client, 2, "resume")
    await deployer.handlers.time_passed()
    assert (await deployer.stage(2)).stage is Stage.SHADOW
    deployer.now += timedelta(seconds=1)
    await deployer.handlers.time_passed()
    [aborted] = await deployer.published(RolloutAborted)
    assert aborted.reason == "time: expected 500 rows within 2h; found 0"


async def test_a_step_held_before_it_was_judged_has_all_its_time_when_it_goes_on(deployer_with):
    deployer = await second(await deployer_with(step_limit="2h"))
    async with calling(deployer) as client:
        await order(client, 2, "pause")
        deployer.now += timedelta(hours=1)
        await deployer.handlers.time_passed()
        deployer.now += timedelta(hours=3)
        await order(client, 2, "resume")
    deployer.now += timedelta(hours=2)
    await deployer.handlers.time_passed()
    assert (await deployer.stage(2)).stage is Stage.SHADOW
    deployer.now += timedelta(seconds=1)
    await deployer.handlers.time_passed()
    assert (await deployer.stage(2)).stage is Stage.ABORTED


async def test_a_held_version_is_not_approved_by_the_way(deployer_with):
    deployer = await second(await deployer_with(approval="required"))
    await deployer.log(*(one for one in pairs(500, score=0.5)))
    async with calling(deployer) as client:
        await order(client, 2, "pause")
        refused = await order(client, 2, "approve")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "paused")
        state = await deployer.stage(2)
        assert (state.stage, state.paused, state.awaiting) == (Stage.SHADOW, True, True)
        await order(client, 2, "resume")
        assert (await order(client, 2, "approve")).json()["stage"] == "canary"


async def test_the_time_of_a_model_on_an_event_clock_is_its_datas(deployer_with):
    deployer = await second(await deployer_with(event_clock=True, step_limit="2d"))
    await deployer.log(day=1)
    deployer.now = NOW + timedelta(days=300)
    await deployer.handlers.time_passed()
    await deployer.log(day=3)
    assert (await deployer.stage(2)).stage is Stage.SHADOW
    await deployer.log(day=4)
    assert (await deployer.stage(2)).stage is Stage.ABORTED


async def test_a_version_answers_nobody_before_it_is_approved(deployer_with):
    deployer = await second(await deployer_with(approval="required"))
    await deployer.log(*(one for one in pairs(500, score=0.5)))
    async with calling(deployer) as client:
        shown = (await client.get("/v1/models/churn/rollouts/2")).json()
        assert (shown["stage"], shown["awaiting_approval"]) == ("shadow", True)
        approved = await order(client, 2, "approve", "looks right")
        assert approved.status_code == 200, approved.text
        again = await order(client, 2, "approve")
        assert (again.status_code, again.json()["error"]["code"]) == (409, "not_awaiting")
    assert (await deployer.stage(2)).stage is Stage.CANARY
    [steered] = await deployer.published(RolloutSteered)
    assert (steered.order, steered.actor, steered.reason) == ("approved", "ann", "looks right")
    *_, route = await deployer.published(RouteChanged)
    assert {share.version: share.weight for share in route.shares} == {1: 95, 2: 5}


async def test_an_experiment_keeps_its_weights_and_shows_the_comparison(deployer_with):
    deployer = await second(await deployer_with(shadow=5, canary=[], ab=40))
    await deployer.log(*pairs(5, score=0.5))
    await deployer.log(
        *(
            answer(1000 + n, version=1 + n % 2, epoch=3, rows=1, score=0.4 + 0.1 * (n % 2))
            for n in range(2000)
        )
    )
    await deployer.handlers.time_passed()
    assert (await deployer.stage(2)).stage is Stage.AB
    *_, route = await deployer.published(RouteChanged)
    assert {share.version: share.weight for share in route.shares} == {1: 60, 2: 40}
    async with calling(deployer) as client:
        measured = (await client.get("/v1/models/churn/rollouts/2")).json()["measured"]
        assert (measured["champion_rows"], measured["candidate_rows"]) == (1000, 1000)
        assert measured["score_shift_lower"] == pytest.approx(0.1)
        assert (await order(client, 2, "promote", "better")).json()["stage"] == "completed"


async def test_what_only_an_operator_ends_is_judged_as_time_passes_not_at_each_answer(
    deployer_with,
):
    deployer = await second(await deployer_with(shadow=5, canary=[], ab=40))
    await deployer.log(*pairs(5, score=0.5))
    failed = [answer(900 + n, version=2, epoch=3, rows=1, failed=True) for n in range(5)]
    await deployer.log(*failed)
    assert (await deployer.stage(2)).stage is Stage.AB
    await deployer.handlers.time_passed()
    assert (await deployer.stage(2)).stage is Stage.ABORTED


async def test_beyond_the_cap_a_sample_of_requests_counts_until_the_next_step(deployer_with):
    deployer = await second(await deployer_with(shadow=5, canary=[], ab=40))
    await deployer.log(*pairs(5, score=0.5))
    await deployer.pool.execute("UPDATE rollout SET kept = $1 WHERE version = 2", KEPT_WHOLE)
    many = [answer(1000 + n, version=1 + n % 2, epoch=3, rows=1) for n in range(2000)]
    await deployer.log(*many)
    found = await deployer.pool.fetchval("SELECT count(*) FROM observation WHERE epoch = 3")
    assert 400 < found < 600  # five standard errors of a quarter
    await deployer.handlers.time_passed()
    async with deployer.opened() as tx:
        assert (await tx.steps_under_way())["churn"] == Step(3, open_ended=True, kept=found)
