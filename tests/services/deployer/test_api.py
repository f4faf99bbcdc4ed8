"""An operator's orders over HTTP, against real Postgres."""

from contextlib import asynccontextmanager

import httpx
import pytest

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.contracts.deployment import (
    RolloutAborted,
    RolloutCompleted,
    RolloutSteered,
    RouteChanged,
)
from gyral.deployer import api
from gyral.deployer.domain.rollouts import Stage
from gyral.kit.access import KeyRing
from gyral.kit.changes import Changes
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.testkit.keys import an_access_key
from gyral.testkit.projections import MemoryProjection
from tests.services.deployer.builders import answer, approved
from tests.services.registry.builders import NOW

pytestmark = pytest.mark.live
ROLLOUT = "/v1/models/churn/rollouts/1"


@pytest.fixture
async def client(deployer):
    async with calling(deployer) as opened:
        yield opened


@asynccontextmanager
async def calling(deployer):
    keys = MemoryProjection(AccessKeyChanged)
    ring = KeyRing(keys)
    key, issued = an_access_key(Scope.OPERATE, Scope.READ, name="ann")
    await keys.put(issued)
    app = create_api(
        "deployer",
        [
            api.views(deployer.opened, Changes(), 3),
            api.orders(deployer.opened, Changes(), lambda: deployer.now, 3),
        ],
        keys=ring,
        health=Health(started=True),
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://deployer",
        headers={"authorization": f"Bearer {key}"},
    ) as opened:
        yield opened


async def test_a_version_that_still_warms_up_can_be_taken_back_but_not_promoted(
    deployer, client
):
    await deployer.handlers.version_approved(approved(1, bootstrap=True))
    early = await client.post(f"{ROLLOUT}/promote", json={"reason": "now"})
    assert (early.status_code, early.json()["error"]["code"]) == (409, "not_under_way")
    taken = await client.post(f"{ROLLOUT}/abort", json={"reason": "no runtime"})
    assert (taken.status_code, taken.json()["stage"]) == (200, "aborted")
    [aborted] = await deployer.published(RolloutAborted)
    assert (aborted.actor, aborted.reason) == ("ann", "no runtime")
    over = await client.post(f"{ROLLOUT}/abort", json={"reason": "again"})
    assert over.status_code == 409
    assert len(await deployer.published(RolloutAborted)) == 1


async def test_an_order_on_a_wall_clock_holds_as_of_now(wall_deployer):
    await wall_deployer.live(1, bootstrap=True)
    await wall_deployer.live(2)
    async with calling(wall_deployer) as client:
        promoted = await client.post(
            "/v1/models/churn/rollouts/2/promote", json={"reason": "seen enough"}
        )
    assert promoted.status_code == 200
    *_, completed = await wall_deployer.published(RolloutCompleted)
    assert (completed.version, completed.as_of) == (2, NOW)


async def order(client, version, name, reason="as told"):
    return await client.post(
        f"/v1/models/churn/rollouts/{version}/{name}", json={"reason": reason}
    )


async def weights(deployer):
    route = (await deployer.published(RouteChanged))[-1]
    return {share.version: share.weight for share in route.shares}


async def test_a_completed_version_is_rolled_back_and_says_by_whom_and_why(deployer, client):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    await deployer.promote(2)
    assert await weights(deployer) == {1: 0, 2: 100}
    back = await order(client, 2, "rollback", "complaints since noon")
    assert back.status_code == 200, back.text
    told = back.json()
    assert (told["stage"], told["actor"], told["reason"]) == (
        "rolled_back",
        "ann",
        "complaints since noon",
    )
    assert await weights(deployer) == {1: 100}
    *_, champion = await deployer.published(RolloutCompleted)
    assert (champion.version, champion.previous, champion.epoch) == (1, 2, 4)
    assert (champion.actor, champion.reason) == ("ann", "complaints since noon")


async def test_a_rollback_that_is_asked_for_again_has_happened_already(deployer, client):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    await deployer.promote(2)
    for _ in range(2):
        assert (await order(client, 2, "rollback")).status_code == 200
    assert len(await deployer.published(RouteChanged)) == 4
    alone = await order(client, 1, "rollback")
    assert (alone.status_code, alone.json()["error"]["code"]) == (409, "nothing_to_return_to")


async def test_a_rollback_of_what_is_under_way_takes_it_back(deployer, client):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    assert (await order(client, 2, "rollback")).json()["stage"] == "aborted"
    assert await weights(deployer) == {1: 100}


async def test_the_champion_is_not_rolled_back_while_another_is_compared_with_it(
    deployer, client
):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    await deployer.promote(2)
    await deployer.live(3)
    refused = await order(client, 2, "rollback")
    assert (refused.status_code, await weights(deployer)) == (409, {2: 100, 3: 0})


async def test_a_version_that_warms_up_goes_with_the_champion_it_was_judged_against(
    deployer, client
):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    await deployer.promote(2)
    await deployer.handlers.version_approved(approved(3))
    assert (await order(client, 2, "rollback")).status_code == 200
    assert (await deployer.stage(3)).stage is Stage.ABORTED
    assert await weights(deployer) == {1: 100}


async def test_a_paused_rollout_waits_for_its_resumption(deployer, client):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    for _ in range(2):
        assert (await order(client, 2, "pause", "the weekend")).json()["paused"] is True
    enough = [answer(n, version=1, epoch=2) for n in range(5)]
    enough += [answer(n, version=2, epoch=2, role="shadow") for n in range(5)]
    await deployer.log(*enough, day=1)
    assert (await deployer.stage(2)).stage is Stage.SHADOW
    assert (await order(client, 2, "resume", "monday")).json()["paused"] is False
    await deployer.log(day=2)
    assert (await deployer.stage(2)).stage is Stage.CANARY
    steered = await deployer.published(RolloutSteered)
    assert [(it.order, it.actor, it.reason) for it in steered] == [
        ("paused", "ann", "the weekend"),
        ("resumed", "ann", "monday"),
    ]


async def test_what_has_ended_is_neither_held_nor_promoted(deployer, client):
    await deployer.live(1, bootstrap=True)
    for name in ("pause", "resume", "promote", "abort"):
        assert (await order(client, 1, name)).status_code == 409
    assert (await order(client, 9, "rollback")).status_code == 404
