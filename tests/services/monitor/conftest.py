from importlib import resources

import pytest

from gyral.kit.migrate import migrate
from gyral.kit.tx import begin
from gyral.monitor.store import MonitorTx
from tests.services.monitor.builders import Monitor, a_model, specs


@pytest.fixture
async def monitor(pool):
    await migrate(pool, resources.files("gyral.monitor") / "migrations", service="monitor")
    return Monitor(pool, begin(pool, MonitorTx, service="monitor"), specs(a_model()))
