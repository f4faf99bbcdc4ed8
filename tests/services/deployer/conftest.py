from importlib import resources

import pytest

from gyral.deployer.store import DeployerTx
from gyral.kit.migrate import migrate
from gyral.kit.tx import begin
from tests.services.deployer.builders import Deployer


@pytest.fixture
async def deployer(pool):
    await migrate(pool, resources.files("gyral.deployer") / "migrations", service="deployer")
    return Deployer(pool, begin(pool, DeployerTx, service="deployer"))
