"""Decisions about groups, followed by a cluster: whether there are pods, and which groups."""

from datetime import timedelta

import httpx
import pytest

from gyral.deployer.domain.demand import Demand
from gyral.deployer.domain.scaling import Limits, Pace
from gyral.deployer.engine.backend import SHARED
from gyral.deployer.engine.groups import Groups
from gyral.deployer.jobs.scaling import Scaling
from tests.services.deployer.builders import KnownSpecs
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
