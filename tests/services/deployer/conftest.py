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


async def _migrated(pool, **clock):
    await migrate(pool, resources.files("gyral.deployer") / "migrations", service="deployer")
    return Deployer(pool, begin(pool, DeployerTx, service="deployer"), **clock)
