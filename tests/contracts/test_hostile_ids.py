"""Ids that are none, on every route a service really has: a no with a reason, never a 500."""

import httpx
import pytest
from fastapi import FastAPI

from gyral.contracts.access import Scope
from gyral.kit.migrate import migrate
from gyral.kit.projection import Projection
from gyral.testkit import hostility
from gyral.testkit.events import send
from gyral.testkit.keys import an_access_key
from gyral.testkit.openapi import assembled

pytestmark = pytest.mark.live
SERVICES = ("registry", "trainer", "deployer", "monitor", "validation")


@pytest.fixture
def known(stack, blobs, postgres_dsn):
    """The settings that lead to stores of this test's own."""
    stores = stack.service_env(database=postgres_dsn, bucket=blobs.bucket)
    return {name.lower(): value for name, value in stores.items()}


@pytest.fixture
async def asked(request, known, producer, tmp_path):
    """A service's routes over its real stores, and a client that may do everything."""
    service = await assembled(request.param, tmp_path, known)
    assert isinstance(service.api, FastAPI)
    assert service.pool is not None
    key, issued = an_access_key(Scope.ADMIN)
    await send(producer, issued)
    projections = [part for part in service.parts if isinstance(part, Projection)]
    async with service.pool:
        await migrate(service.pool, service.migrations, service=request.param)
        for projection in projections:
            await projection.start()
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(service.api, raise_app_exceptions=False),
            base_url="http://service",
            headers={"authorization": f"Bearer {key}"},
        ) as client:
            yield service.api, client
        for projection in projections:
            await projection.stop()


@pytest.mark.parametrize("asked", SERVICES, indirect=True)
async def test_an_id_that_is_none_is_refused_with_a_reason_on_every_route(asked):
    api, client = asked
    wrong, sent = [], 0
    for hostile in hostility.requests(api):
        answer = await client.request(hostile.method, hostile.path, json={"reason": "none"})
        sent += 1
        refused = answer.is_client_error
        fine = refused or (answer.is_success and not hostile.in_path)
        if not fine or (refused and not answer.json()["error"]["message"]):
            wrong.append(f"{hostile.method} {hostile.path[:120]}: {answer.status_code}")
    assert not wrong, "\n".join(wrong)
    assert sent > len(hostility.TEXTS)
