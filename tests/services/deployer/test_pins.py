"""Adopting what operators pinned at the gateways: an order once, and beyond its epoch."""

import pytest

from gyral.contracts.deployment import (
    RolloutAborted,
    RolloutCompleted,
    RouteChanged,
    RoutePinned,
    Share,
)
from gyral.deployer.domain.rollouts import Stage
from gyral.testkit.events import delivered
from tests.services.deployer.builders import answer
from tests.services.deployer.test_routes import INPUTS
from tests.services.registry.builders import NOW, RUN

pytestmark = pytest.mark.live
PIN = "9d3c2a8e-51f6-4d1c-8a70-3f0f6f0f2b11"


async def a_pin(deployer, version, *, epoch, pin_id=PIN, sha256=None):
    async with deployer.opened() as tx:
        made = (await tx.rollout("churn", 1)).artifacts.onnx.sha256
    share = Share(
        version=version,
        weight=100,
        slot=f"churn@{version}",
        sha256=sha256 or made,
        inputs=INPUTS,
    )
    route = RouteChanged(
        model="churn", epoch=epoch, shares=(share,), runtime="unix:/r", event_clock=True
    )
    event = RoutePinned(
        pin_id=pin_id, route=route, actor="ann", reason="too high", pinned_at=NOW
    )
    return delivered(event, f"{pin_id[:28]}{epoch:08d}")


async def test_a_pin_is_adopted_once_beyond_its_epoch_and_names_the_champion(deployer):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    await deployer.promote(2)
    pinned = await a_pin(deployer, 1, epoch=1003)
    for _ in range(2):
        await deployer.handlers.route_pinned(pinned)
    *_, route = await deployer.published(RouteChanged)
    assert (route.epoch, [share.version for share in route.shares]) == (1004, [1])
    *_, champion = await deployer.published(RolloutCompleted)
    assert (champion.version, champion.previous, champion.epoch) == (1, 2, 1004)
    assert (champion.actor, champion.reason) == ("ann", "too high")
    assert len(await deployer.published(RolloutCompleted)) == 3
    async with deployer.opened() as tx:
        taken = await tx.rollout("churn", 2)
    assert (taken.state.stage, taken.actor) == (Stage.ROLLED_BACK, "ann")
    await deployer.live(3, against=1)
    *_, route = await deployer.published(RouteChanged)
    assert route.epoch == 1005


async def test_a_pin_takes_back_what_is_under_way_and_what_was_decided_meanwhile(deployer):
    """The gateways were cut off at epoch 2; the deployer went on to another canary."""
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    pinned = await a_pin(deployer, 1, epoch=1002)
    await deployer.promote(2)
    await deployer.live(3)
    await deployer.handlers.route_pinned(pinned)
    [aborted] = await deployer.published(RolloutAborted)
    assert (aborted.version, aborted.actor, aborted.reason) == (3, "ann", "pinned: too high")
    *_, route = await deployer.published(RouteChanged)
    assert (route.epoch, [share.version for share in route.shares]) == (1003, [1])
    *_, champion = await deployer.published(RolloutCompleted)
    assert (champion.version, champion.previous) == (1, 2)


async def test_a_second_pin_of_the_same_emergency_changes_nothing_more(deployer):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    await deployer.promote(2)
    await deployer.handlers.route_pinned(await a_pin(deployer, 1, epoch=1003))
    routes = await deployer.published(RouteChanged)
    late = await a_pin(deployer, 1, epoch=1003, pin_id=RUN)
    await deployer.handlers.route_pinned(late)
    assert await deployer.published(RouteChanged) == routes


@pytest.mark.parametrize(
    ("version", "sha256"), [(9, None), (1, "f" * 64)], ids=["unknown version", "other bytes"]
)
async def test_a_stale_pin_is_refused_and_lifted(deployer, version, sha256):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    await deployer.promote(2)
    pinned = await a_pin(deployer, version, epoch=1003, sha256=sha256)
    await deployer.handlers.route_pinned(pinned)
    *_, route = await deployer.published(RouteChanged)
    assert route.epoch == 1004
    assert {share.version: share.weight for share in route.shares} == {1: 0, 2: 100}
    assert len(await deployer.published(RolloutCompleted)) == 2


async def test_a_step_under_way_goes_on_at_the_epoch_that_lifts_a_refused_pin(deployer):
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    await deployer.handlers.route_pinned(await a_pin(deployer, 9, epoch=1003))
    shadow = [answer(n, version=1, epoch=1004) for n in range(5)]
    shadow += [answer(n, version=2, epoch=1004, role="shadow") for n in range(5)]
    await deployer.log(*shadow, day=1)
    assert (await deployer.stage(2)).stage is Stage.CANARY


async def test_the_pin_of_a_gateway_that_was_further_lies_below_the_route_too(deployer):
    await completed(deployer)
    await deployer.handlers.route_pinned(await a_pin(deployer, 1, epoch=1003))
    await deployer.handlers.route_pinned(await a_pin(deployer, 1, epoch=1006))
    *_, route = await deployer.published(RouteChanged)
    assert (route.epoch, weights(route)) == (1007, {1: 100})
    *_, before, champion = await deployer.published(RolloutCompleted)
    assert [(it.version, it.epoch) for it in (before, champion)] == [(2, 3), (1, 1004)]


async def test_the_pin_of_a_gateway_that_was_behind_is_lifted_already(deployer):
    await completed(deployer)
    await deployer.handlers.route_pinned(await a_pin(deployer, 1, epoch=1006))
    routes = await deployer.published(RouteChanged)
    assert (routes[-1].epoch, weights(routes[-1])) == (1007, {1: 100})
    await deployer.handlers.route_pinned(await a_pin(deployer, 1, epoch=1003))
    assert await deployer.published(RouteChanged) == routes


async def test_a_stale_pin_does_not_use_up_the_order_it_belongs_to(deployer):
    await completed(deployer)
    await deployer.handlers.route_pinned(await a_pin(deployer, 1, epoch=2))
    assert (await deployer.stage(2)).stage is Stage.COMPLETED
    await deployer.handlers.route_pinned(await a_pin(deployer, 1, epoch=1003))
    assert (await deployer.stage(2)).stage is Stage.ROLLED_BACK


async def test_a_gateway_that_tells_late_takes_back_no_later_rollout(deployer):
    await completed(deployer)
    await deployer.handlers.route_pinned(await a_pin(deployer, 1, epoch=1003))
    await deployer.live(3, against=1)
    shadow = [answer(n, version=1, epoch=1005) for n in range(5)]
    shadow += [answer(n, version=3, epoch=1005, role="shadow") for n in range(5)]
    await deployer.log(*shadow)
    await deployer.handlers.route_pinned(await a_pin(deployer, 1, epoch=1006))
    *_, route = await deployer.published(RouteChanged)
    assert (route.epoch, weights(route)) == (1007, {1: 100, 3: 0})
    assert (await deployer.stage(3)).stage is Stage.SHADOW
    await deployer.log(day=1)
    assert (await deployer.stage(3)).stage is Stage.CANARY
    assert await deployer.published(RolloutAborted) == []


async def test_an_order_at_the_routes_own_epoch_takes_back_what_is_under_way(deployer):
    await completed(deployer)
    await deployer.handlers.route_pinned(await a_pin(deployer, 1, epoch=1003))
    await deployer.live(3, against=1)
    await deployer.handlers.route_pinned(await a_pin(deployer, 1, epoch=1005, pin_id=RUN))
    *_, route = await deployer.published(RouteChanged)
    assert (route.epoch, weights(route)) == (1007, {1: 100})
    assert (await deployer.stage(3)).stage is Stage.ABORTED


async def completed(deployer):
    """A second version answers alone, at epoch 3."""
    await deployer.live(1, bootstrap=True)
    await deployer.live(2)
    await deployer.promote(2)


def weights(route):
    return {share.version: share.weight for share in route.shares}
