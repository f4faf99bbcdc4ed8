"""Decisions about groups: in one transaction with their event, and real runtimes follow."""

import asyncio
from datetime import timedelta

import httpx
import pytest

from gyral.contracts.deployment import RuntimesScaled
from gyral.contracts.inference import ServingDemand
from gyral.deployer.domain.demand import Demand
from gyral.deployer.domain.scaling import Limits, Pace
from gyral.deployer.engine.backend import SHARED
from gyral.deployer.engine.groups import Groups
from gyral.deployer.engine.runtimes import Runtime
from gyral.deployer.jobs.following import Addressing
from gyral.deployer.jobs.scaling import Scaling, nobody_is_left
from gyral.kit.changes import Changes
from gyral.kit.health import UnstartableError
from tests.services.deployer.builders import KnownSpecs, approved
from tests.services.deployer.test_processes import a_backend
from tests.services.registry.builders import NOW
from tests.services.runtime.control import controlled

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]
TO_NONE = {"runtime": "own", "replicas": {"min": 0, "max": 2}, "idle": "15m"}


class World:
    """A deployer's groups with a clock of their own."""

    def __init__(self, deployer, backend, client, serving=TO_NONE):
        self.deployer, self.backend, self.passed_s = deployer, backend, 0.0
        self.specs = KnownSpecs(serving=serving)
        self.groups = Groups({}, backend.made, client)
        self.scaling = self.another()

    def another(self):
        """A deployer of the same groups."""
        return Scaling(
            begin=self.deployer.opened,
            groups=self.groups,
            backend=self.backend.made,
            specs=self.specs,
            demand=Demand(0.0, keep_s=300),
            pace=Pace(3, 300),
            shared=Limits(1, 1, 0.05),
            linger_s=60,
            now=lambda: NOW + timedelta(seconds=self.passed_s),
            clock=lambda: self.passed_s,
        )

    async def address(self):
        """Have routes follow."""
        await Addressing(
            self.deployer.opened, self.groups, self.specs, lambda: NOW, Changes()
        ).run_once()

    def ask(self, *, waiting=0, model="churn", gateway="g"):
        self.scaling.heard(
            ServingDemand(
                gateway=gateway, model=model, window_s=1, requests=0, refused=0,
                answered=0, queue_mean_s=0, queue_max_s=0, waiting=waiting,
            )
        )  # fmt: skip

    def quiet(self, seconds, *gateways):
        """Let time pass in which every gateway says that it was asked nothing."""
        until = self.passed_s + seconds
        while self.passed_s < until:
            self.passed_s += min(1, until - self.passed_s)
            for each in gateways or ("g",):
                self.ask(model=None, gateway=each)

    async def told(self):
        """Every change so far, of the model's group."""
        scaled = await self.deployer.published(RuntimesScaled)
        return [
            (each.before, each.after, each.why.split(":")[0])
            for each in scaled
            if each.group == "churn"
        ]

    async def route(self):
        async with self.deployer.opened() as tx:
            return await tx.route("churn")


@pytest.fixture
async def world(deployer, tmp_path):
    async with a_backend(tmp_path) as backend, httpx.AsyncClient() as client:
        yield World(deployer, backend, client)


async def test_a_routed_model_of_its_own_has_runtimes_until_nobody_asks(world):
    await world.deployer.live(1, bootstrap=True)
    await world.scaling.run_once()
    await world.backend.until("churn", 1)
    await world.backend.until(SHARED, 1)
    assert await world.told() == [(0, 1, "declared")]
    world.quiet(902)
    await world.scaling.run_once()
    assert (await world.told())[1:] == [(1, 0, "idle")]
    assert len(await world.backend.until("churn", 1)) == 1  # gateways may still ask it
    await world.address()
    route = await world.route()
    assert (route.dormant, route.runtimes) == (True, (world.backend.made.entry("churn"),))
    await world.scaling.run_once()
    world.passed_s += 61
    await world.scaling.run_once()
    assert (await world.groups.seats())["churn"] == ()
    world.ask(waiting=1)
    await world.scaling.run_once()
    assert (await world.told())[2:] == [(0, 1, "woken")]
    await world.backend.until("churn", 1)


async def test_who_is_not_heard_of_may_be_asked_all_the_while(world):
    """Kafka away for longer than `idle`; then one of two gateways cut off from it."""
    await world.deployer.live(1, bootstrap=True)
    world.quiet(600, "g", "h")
    world.passed_s += 5000
    await world.scaling.run_once()
    world.quiet(600, "g", "h")
    await world.scaling.run_once()
    assert await world.told() == [(0, 1, "declared")]
    world.quiet(599, "g")
    await world.scaling.run_once()
    assert len(await world.told()) == 1
    world.quiet(899, "g", "h")
    await world.scaling.run_once()
    assert len(await world.told()) == 1
    world.quiet(3, "g", "h")
    await world.scaling.run_once()
    assert (await world.told())[1:] == [(1, 0, "idle")]


async def test_two_deployers_that_decide_at_once_decide_once(world):
    await world.deployer.live(1, bootstrap=True)
    await asyncio.gather(*(each.run_once() for each in (world.scaling, world.another())))
    assert await world.told() == [(0, 1, "declared")]
    await asyncio.gather(
        *(each.wake("churn", "again") for each in (world.scaling, world.another()))
    )
    assert await world.told() == [(0, 1, "declared")]


async def test_a_version_that_is_prepared_wakes_its_group_and_keeps_it(world):
    await world.deployer.handlers.version_approved(approved(1, bootstrap=True))
    await world.scaling.run_once()
    assert await world.told() == []  # the preparation says when
    await world.scaling.wake("churn", "version 1 of churn is prepared")
    world.quiet(5000)
    await world.scaling.run_once()
    assert await world.told() == [(0, 1, "version 1 of churn is prepared")]
    await world.deployer.go_live(1)
    await world.scaling.run_once()
    assert (await world.told())[1:] == [(1, 0, "idle")]


async def test_a_group_is_forgotten_once_its_model_is_held_by_the_shared_ones(world):
    await world.deployer.live(1, bootstrap=True)
    await world.scaling.run_once()
    await world.backend.until("churn", 1)
    world.scaling.specs = KnownSpecs()
    await world.scaling.run_once()
    assert (await world.told())[1:] == [(1, 0, "declared")]
    world.passed_s = 61
    await world.scaling.run_once()
    await world.backend.until("churn", 0)
    async with world.deployer.opened() as tx:
        assert set(await tx.groups()) == {SHARED}


async def test_shared_runtimes_that_were_made_end_once_settings_name_others(world, tmp_path):
    await world.scaling.run_once()
    await world.backend.until(SHARED, 1)
    async with controlled(tmp_path / "fixed") as (client, _):
        world.groups = Groups({"unix:/r": Runtime(client)}, world.backend.made, client)
        world.scaling = world.another()
        await world.scaling.run_once()
        async with world.deployer.opened() as tx:
            assert await tx.groups() == {}
        assert len(await world.backend.until(SHARED, 1)) == 1  # gateways may still ask it
        world.passed_s = 61
        await world.scaling.run_once()
        await world.backend.until(SHARED, 0)
        assert [each.address for each in (await world.groups.seats())[SHARED]] == ["unix:/r"]


async def test_without_a_backend_it_does_not_start_while_runtimes_are_wanted_of_one(world):
    await nobody_is_left(world.deployer.opened)
    await world.deployer.live(1, bootstrap=True)
    await world.scaling.run_once()
    with pytest.raises(UnstartableError, match=r"of churn, shared \(2 in all\); found none"):
        await nobody_is_left(world.deployer.opened)
