"""An operator's orders over HTTP, against real Postgres."""

from contextlib import asynccontextmanager

import httpx
import pytest

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.contracts.deployment import RolloutAborted, RolloutCompleted
from gyral.deployer import api
from gyral.kit.access import KeyRing
from gyral.kit.changes import Changes
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.testkit.keys import an_access_key
from gyral.testkit.projections import MemoryProjection
from tests.services.deployer.builders import approved
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
    key, issued = an_access_key(Scope.OPERATE, name="ann")
    await keys.put(issued)
    app = create_api(
        "deployer",
        [api.orders(deployer.opened, Changes(), lambda: NOW, 3)],
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
