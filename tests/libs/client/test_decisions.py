"""Each query over what was decided finds what is planted for it, and nothing else."""

import pytest

from gyral.client.audit import decisions
from tests.libs.client.stores import MODEL, ago, uuid_of

pytestmark = pytest.mark.live
OLD = ago(days=31)


async def found(stores):
    """Return what each query finds, of those that find anything."""
    return {
        each.name: list(each.examples)
        async for each in decisions.check(stores.connection, patience_s=0)
        if each.violations
    }


async def a_loop(stores):
    """Plant a model whose second version took over from its first."""
    for number, began, judged, moved in ((1, 50, 40, 30), (2, 20, 15, 10)):
        name = f"version {number}"
        await stores.run(name, began=ago(minutes=began), ended=ago(minutes=judged + 1))
        await stores.version(number, uuid_of(name), judged=ago(minutes=judged))
        await stores.rollout(number, moved=ago(minutes=moved))
    await stores.champion(2)


async def test_a_loop_that_turned_once_violates_nothing(stores):
    await a_loop(stores)
    await stores.route((2, 100))
    assert await found(stores) == {}


@pytest.mark.parametrize(
    ("shares", "alone"), [([(1, 100)], "1"), ([(2, 100), (1, 0)], None), ([], "none")]
)
async def test_the_champion_answers_alone(stores, shares, alone):
    await a_loop(stores)
    if shares:
        await stores.route(*shares)
    line = f"{MODEL}: the champion is 2; alone answers {alone}"
    assert await found(stores) == ({"one_champion_per_model": [line]} if alone else {})


async def test_a_version_that_answers_alone_is_the_champion(stores):
    await stores.version(1, uuid_of("version 1"))
    await stores.route((1, 100))
    line = f"{MODEL}: the champion is none; alone answers 1"
    assert await found(stores) == {"one_champion_per_model": [line]}


async def test_while_a_rollout_runs_the_champion_need_not_answer_alone(stores):
    await a_loop(stores)
    await stores.route((2, 75), (3, 25))
    await stores.run("version 3", in_flight=True, began=ago(minutes=5))
    await stores.version(3, uuid_of("version 3"))
    await stores.rollout(3, "canary")
    assert await found(stores) == {}


async def test_weights_that_are_not_all_are_found(stores):
    await a_loop(stores)
    await stores.route((2, 100), (1, 5))
    line = f"{MODEL}: weights add up to 105"
    assert await found(stores) == {"one_champion_per_model": [line]}


@pytest.mark.parametrize(
    ("shadow", "why"),
    [
        ((7, 0), "the registry does not know it"),
        ((3, 0), "it is rejected"),
        ((1, 0, "b" * 64), "its bytes are not those judged"),
    ],
)
async def test_a_version_that_serves_without_approval_is_found(stores, shadow, why):
    await a_loop(stores)
    await stores.version(3, uuid_of("version 3"), "rejected")
    await stores.route((2, 100), shadow)
    line = f"{MODEL}@{shadow[0]}: {why}"
    assert await found(stores) == {"serving_versions_are_approved": [line]}


@pytest.mark.parametrize("began", [19, 15.5, 12], ids=["training", "verdict", "rollout"])
async def test_a_run_that_began_during_another_is_found(stores, began):
    await a_loop(stores)
    await stores.route((2, 100))
    await stores.run("hasty", "failed", began=ago(minutes=began))
    [line] = (await found(stores))["one_retrain_in_flight"]
    assert line.startswith(f"{MODEL}: {uuid_of('run hasty')} began during ")


@pytest.mark.parametrize("stage", ["shadow", None], ids=["in rollout", "not in rollout yet"])
async def test_a_flight_that_the_trainer_ended_too_early_is_found(stores, stage):
    await a_loop(stores)
    await stores.route((2, 100))
    await stores.run("version 3", began=ago(minutes=9), ended=ago(minutes=8))
    await stores.version(3, uuid_of("version 3"), judged=ago(minutes=7))
    if stage:
        await stores.rollout(3, stage)
    await stores.run("hasty", "failed", began=ago(minutes=1))
    assert len((await found(stores))["one_retrain_in_flight"]) == 1


async def test_a_run_may_begin_once_the_last_was_rejected(stores):
    await stores.run("version 1", began=ago(minutes=9), ended=ago(minutes=8))
    await stores.version(1, uuid_of("version 1"), "rejected", judged=ago(minutes=7))
    await stores.run("next", "running", in_flight=True, began=ago(minutes=6), ended=None)
    assert await found(stores) == {}


async def test_an_entry_that_follows_from_none_is_found(stores):
    await stores.audited(1, "champion.changed", 1)
    assert "audit_chain_verifies" in await found(stores)


async def outcomes(stores, *told):
    """Compare with topics that tell this, then this: a look may find more than the last."""
    rest = list(told)

    async def read():
        return rest.pop(0) if len(rest) > 1 else rest[0]

    patience_s = 60 if len(told) > 1 else 0
    return await decisions.outcomes(stores.connection, read, patience_s=patience_s)


async def test_what_is_decided_or_told_at_the_next_look_is_no_violation(stores):
    ran = await stores.run("ran")
    told = {ran: {"requested": 1, "succeeded": 1}}
    late = {uuid_of("just asked"): {"requested": 1}}
    assert (await outcomes(stores, {ran: {"requested": 1}}, told)).violations == 0
    assert (await outcomes(stores, told | late, told)).violations == 0


async def test_requests_that_were_decided_and_told_are_left_alone(stores):
    told = {
        await stores.run("ran"): {"requested": 1, "succeeded": 1},
        await stores.suppressed("not wanted"): {"requested": 1, "suppressed": 1},
    }
    assert (await outcomes(stores, told)).violations == 0


async def test_what_ended_before_topics_reach_back_is_judged_by_the_tables_alone(stores):
    await stores.run("ran", began=OLD, ended=OLD)
    await stores.suppressed("not wanted", OLD)
    assert (await outcomes(stores, {})).violations == 0


@pytest.mark.parametrize("ended", [ago(days=1), ago(days=29)])
async def test_what_ended_since_must_have_been_told_however_long_it_ran(stores, ended):
    await stores.run("ran", began=OLD, ended=ended)
    [line] = (await outcomes(stores, {})).examples
    assert "0 outcomes were told" in line


async def test_an_outcome_told_twice_is_found_however_old(stores):
    old = await stores.run("ran", began=OLD, ended=OLD)
    [line] = (await outcomes(stores, {old: {"failed": 1, "succeeded": 1}})).examples
    assert "2 outcomes were told" in line


async def test_an_outcome_told_of_a_run_that_is_not_over_is_found(stores):
    open_ = await stores.run("ran", "running", in_flight=True, began=OLD, ended=None)
    assert (await outcomes(stores, {})).violations == 0
    assert (await outcomes(stores, {open_: {"failed": 1}})).violations == 1


async def test_an_old_request_whose_run_is_gone_is_found(stores):
    await stores.run("ran", began=OLD, ended=OLD)
    await stores.connection.execute("DELETE FROM trainer.run")
    [line] = (await outcomes(stores, {})).examples
    assert "expected it suppressed or a run; found neither" in line


async def test_a_request_that_nobody_decided_on_is_found(stores):
    asked = uuid_of("asked")
    found = await outcomes(stores, {asked: {"requested": 1}})
    assert found.examples == (f"{asked}: nobody decided on it",)
