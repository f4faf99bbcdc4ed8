"""Decisions about groups, followed by a cluster: whether there are pods, and which groups."""

from datetime import timedelta
from types import SimpleNamespace

import httpx
import pytest

from gyral.deployer.domain.demand import Demand
from gyral.deployer.domain.scaling import Limits, Pace
from gyral.deployer.engine.backend import SHARED
from gyral.deployer.engine.groups import Groups
from gyral.deployer.jobs.scaling import Scaling
from tests.services.deployer.builders import KnownSpecs
from tests.services.deployer.test_deciding import World
from tests.services.registry.builders import NOW

from .cluster.objects import StatusError
from .pods import ready

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]
OWN = {"runtime": "own", "replicas": {"min": 1, "max": 3}}


@pytest.fixture
async def scaling(deployer, backend):
    async with httpx.AsyncClient(trust_env=False) as client:
        yield Scaling(
            begin=deployer.opened,
            groups=Groups({}, backend, client),
            backend=backend,
            specs=KnownSpecs(serving=OWN),
            demand=Demand(0.0, keep_s=300),
            pace=Pace(3, 300),
            shared=Limits(1, 1, 0.05),
            linger_s=60,
            now=lambda: NOW + timedelta(seconds=1),
            clock=lambda: 1.0,
        )


@pytest.mark.usefixtures("images")
async def test_a_group_that_the_cluster_refuses_holds_up_no_other(
    deployer, cluster, backend, scaling
):
    await deployer.live(1, bootstrap=True)
    cluster.api.refuse["runtime-churn"] = StatusError(422, "Invalid", "no")
    await scaling.run_once()
    assert set(await backend.groups()) == {SHARED}
    await ready(backend, 1, SHARED)
    cluster.api.refuse["runtime-shared"] = StatusError(422, "Invalid", "no")
    with pytest.raises(ConnectionError, match="found 422"):
        await scaling.run_once()
    cluster.api.refuse.clear()
    await scaling.run_once()
    assert set(await backend.groups()) == {SHARED, "churn"}


@pytest.mark.usefixtures("images")
async def test_a_cluster_is_told_whether_not_how_many_and_keeps_what_gateways_may_ask(
    deployer, backend
):
    serving = {**OWN, "replicas": {"min": 0, "max": 3}, "idle": "15m"}
    async with httpx.AsyncClient(trust_env=False) as client:
        world = World(deployer, SimpleNamespace(made=backend), client, serving)
        await deployer.live(1, bootstrap=True)
        await world.scaling.run_once()
        await ready(backend, 1, "churn")
        for _ in range(10):
            world.passed_s += 1
            world.ask(queue_s=1.0)
            await world.scaling.run_once()
        assert await world.told() == [(0, 1, "declared")]  # more is the autoscaler's affair
        world.scaling = world.another()  # it has not heard yet that no route names the pod
        world.quiet(902)
        await world.scaling.run_once()
        assert (await world.told())[1:] == [(1, 0, "idle")]
        await world.address()
        assert (await world.route()).dormant
        await world.scaling.run_once()
        await ready(backend, 1, "churn")
        world.passed_s += 61
        await world.scaling.run_once()
        assert (await backend.groups())["churn"] == ()
        world.ask(waiting=1)
        await world.scaling.run_once()
        await ready(backend, 1, "churn")
