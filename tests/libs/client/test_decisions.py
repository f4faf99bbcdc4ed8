"""Each query over what was decided finds what is planted for it, and nothing else."""

import pytest

from gyral.client.audit import decisions
from tests.libs.client.stores import ago, uuid_of

pytestmark = pytest.mark.live
OLD = ago(days=31)


async def outcomes(stores, told):
    return await decisions.outcomes(stores.connection, told)


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
