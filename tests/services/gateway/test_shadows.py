"""Copies of answered requests, whatever becomes of the answer."""

import asyncio
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from gyral.gateway.api.protocol import FORMS

from .conftest import ROWS, infer_body
from .door import MODEL, open_door


def unwritable(_said):
    raise ArithmeticError


async def test_a_copy_is_asked_also_when_the_answer_cannot_be_written():
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        async with open_door(Path(folder), Path(folder, "r.sock")) as door:
            front = door.api.front
            [route] = front.table.routes()
            [live] = route.shares
            shadow = live.model_copy(update={"version": 2, "weight": 0, "shadow": True})
            front.table.follow(
                MODEL, route.model_copy(update={"epoch": 2, "shares": (live, shadow)})
            )
            door.api.forms = {"infer": replace(FORMS["infer"], write=unwritable)}
            answer = await door.ask(
                f"/v2/models/{MODEL}/infer", json.dumps(infer_body(ROWS[:1])).encode()
            )
            assert answer.status_code == 500
            async with asyncio.timeout(10):
                await front.answering.shadows.settled(MODEL)
            logged = [json.loads(entry.payload) for entry in await door.remembered()]
    assert {entry["role"] for entry in logged} == {"live", "shadow"}
