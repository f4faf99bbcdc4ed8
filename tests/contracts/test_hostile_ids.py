"""Ids that are none, on every route a service really has: a no with a reason, never a 500."""

import pytest

from gyral.testkit import hostility

pytestmark = pytest.mark.live
SERVICES = ("registry", "trainer", "deployer", "monitor", "validation")


@pytest.mark.parametrize("service", SERVICES)
async def test_an_id_that_is_none_is_refused_with_a_reason_on_every_route(asking, service):
    async with asking(service) as asked:
        wrong, sent = [], 0
        for hostile in hostility.requests(asked.api):
            answer = await asked.client.request(
                hostile.method, hostile.path, json={"reason": "none"}
            )
            sent += 1
            refused = answer.is_client_error
            fine = refused or (answer.is_success and not hostile.in_path)
            if not fine or (refused and not answer.json()["error"]["message"]):
                wrong.append(f"{hostile.method} {hostile.path[:120]}: {answer.status_code}")
        assert not wrong, "\n".join(wrong)
        assert sent > len(hostility.TEXTS)
