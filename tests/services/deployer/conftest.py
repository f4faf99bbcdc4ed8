from importlib import resources

import pytest

from gyral.deployer.store import DeployerTx
from gyral.kit.migrate import migrate
from gyral.kit.tx import begin
from tests.services.deployer.builders import Deployer


@pytest.fixture
async def deployer(pool):
    return await _migrated(pool)


@pytest.fixture
async def wall_deployer(pool):
    """One whose model's time is the wall clock's: no marker moves it."""
    return await _migrated(pool, event_clock=False)


@pytest.fixture
def deployer_with(pool):
    """Make one whose model is rolled out otherwise, on a wall clock unless told."""

    async def make(*, event_clock=False, **rollout):
        return await _migrated(pool, event_clock=event_clock, **rollout)

    return make


async def _migrated(pool, **given):
    await migrate(pool, resources.files("gyral.deployer") / "migrations", service="deployer")
    return Deployer(pool, begin(pool, DeployerTx, service="deployer"), **given)
