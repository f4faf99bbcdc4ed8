"""What `gyral trace` shows of a loop: also what came to nothing, and where its trace is."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest

from gyral.client import commandline
from gyral.client.audit import tracing
from tests.libs.client.stores import uuid_of
from tests.libs.client.test_calls import a_service, answer

RUN = {"run_id": "n1", "request_id": "r1", "cause": "cusum", "as_of": "2013-04-25T00:00:00Z"}


def told(value):
    return answer(200, json.dumps(value).encode())


async def test_a_trace_shows_requests_that_came_to_nothing_in_order_of_event_time(
    tmp_path, capsys
):
    later = {"request_id": "r2", "cause": "cusum", "as_of": "2013-04-26T00:00:00Z"}
    same = {name: RUN[name] for name in ("request_id", "cause", "as_of")}
    answers = [
        [RUN],
        [{"run_id": "n1", "version": 2, "state": "approved"}],
        [{"version": 2, "stage": "completed", "epoch": 5}],
        {"requests": [later, same]},
        {"request_id": "r2", "outcome": "suppressed", "reason": "cooldown"},
        {"request_id": "r1", "outcome": "succeeded", "run_id": "n1"},
    ]
    async with a_service(*map(told, answers)) as (registry, _, _):
        services = ("TRAINER", "REGISTRY", "DEPLOYER", "MONITOR")
        urls = {f"GYRAL_{each}_URL": registry.http.url for each in services}
        here = {"GYRAL_HOME": str(tmp_path), "GYRAL_API_KEY": "k"}
        with ThreadPoolExecutor(1) as beside, patch.dict("os.environ", urls | here):
            work = beside.submit(commandline.run, ["trace", "m", "-o", "json"])
            assert await asyncio.wrap_future(work) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["request_id"], first["verdict"], first["rollout"]) == (
        "r1",
        "approved",
        "completed",
    )
    assert (second["request_id"], second["outcome"], second["reason"]) == (
        "r2",
        "suppressed",
        "cooldown",
    )
    assert second["version"] is None


@pytest.mark.live
async def test_a_requests_trace_is_that_of_its_run(stores):
    ran, untraced = await stores.run("ran"), await stores.run("untraced")
    await stores.connection.execute(
        "UPDATE trainer.run SET traceparent = $1 WHERE request_id = $2",
        f"00-{'a' * 32}-{'b' * 16}-01",
        ran,
    )
    found = await tracing.ids(stores.connection, [ran, untraced, uuid_of("none")])
    assert found == {ran: "a" * 32}
