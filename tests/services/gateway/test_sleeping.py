"""A model whose runtimes have all gone by intent: who asks waits, and not too many at once."""

import asyncio
import json
import tempfile
from pathlib import Path

from gyral.testkit.waiting import until

from .conftest import ROWS, infer_body
from .door import MODEL, open_door

MOST = 64
BODY = json.dumps(infer_body(ROWS)).encode()
PATH = f"/v2/models/{MODEL}/infer"


async def test_some_wait_for_its_runtime_and_the_others_are_told_to_come_back(tmp_path):
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        async with open_door(tmp_path, Path(folder, "r.sock")) as door:
            table, fleet = door.api.front.table, door.api.front.answering.fleet
            assert (await door.ask(PATH, BODY)).status_code == 200
            awake = table.get(MODEL)
            assert awake is not None
            await door.peer.kill()
            route = awake.route.model_copy(update={"epoch": 2, "dormant": True})
            table.follow(MODEL, route)
            fleet.follow([route])
            missed: set[str] = set()
            fleet.away = missed.add
            waiting = [asyncio.create_task(door.ask(PATH, BODY)) for _ in range(MOST)]
            crowd = fleet.batcher(route, route.shares[0], shadow=False).crowd
            await until(lambda: crowd.requests == MOST)
            for _ in range(3):
                refused = await door.ask(PATH, BODY)
                assert (refused.status_code, "retry-after" in refused.headers) == (429, True)
            told = fleet.collect()[MODEL]
            assert (told.refused, told.waiting) == (3, MOST)
            await door.peer.start()
            assert {(await each).status_code for each in waiting} == {200}
            assert missed == {MODEL}
