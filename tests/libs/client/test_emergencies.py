"""`gyral rollout rollback --emergency` among gateways: they agree, or nothing is done."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest

from gyral.client import commandline
from gyral.testkit.processes import free_port
from tests.libs.client.test_calls import a_service, answer

ORDER = ["rollout", "rollback", "m", "--emergency", "--reason", "too high"]


def told(status, **value):
    return answer(status, json.dumps(value).encode())


def would(version, instead_of):
    return told(200, epoch=4, version=version, instead_of=instead_of)


async def typed(words, *urls):
    here = {"GYRAL_GATEWAY_URLS": ", ".join(urls), "GYRAL_API_KEY": "k"}
    with ThreadPoolExecutor(1) as beside, patch.dict("os.environ", here):
        return await asyncio.wrap_future(beside.submit(commandline.run, words))


async def test_all_gateways_get_one_pin_and_the_same_version(capsys):
    pinned = told(200, epoch=1004, version=1, pin_id="p")
    async with (
        a_service(would(1, 2), pinned) as (one, asked, _),
        a_service(would(1, 2), pinned) as (other, also, _),
    ):
        assert await typed([*ORDER, "-o", "json"], one.http.url, other.http.url) == 0
    bodies = [request.partition(b"\r\n\r\n")[2] for request in (asked[1], also[1])]
    assert bodies[0] == bodies[1]
    assert json.loads(bodies[0])["version"] == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["outcome"] for row in rows] == ["pinned", "pinned"]


async def test_gateways_that_would_answer_by_different_versions_are_left_alone(capsys):
    async with (
        a_service(would(1, 2)) as (one, _, _),
        a_service(would(2, 3)) as (other, _, _),
    ):
        assert await typed(ORDER, one.http.url, other.http.url) == 1
    assert "expected every gateway to take back the same version" in capsys.readouterr().err


async def test_the_version_named_must_be_the_one_they_take_back(capsys):
    named = [*ORDER[:3], "7", *ORDER[3:]]
    async with a_service(would(1, 2)) as (one, _, _):
        assert await typed(named, one.http.url) == 1
    assert "expected every gateway to take back version 7" in capsys.readouterr().err


async def test_a_gateway_out_of_reach_hinders_no_other_and_is_said_so(capsys, monkeypatch):
    monkeypatch.setattr("gyral.client.commands.emergencies._PATIENCE_S", 0.2)
    nowhere = f"http://127.0.0.1:{free_port()}"
    pinned = told(200, epoch=1004, version=1, pin_id="p")
    async with a_service(would(1, 2), pinned) as (one, _, _):
        assert await typed([*ORDER, "-o", "json"], one.http.url, nowhere) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert (first["outcome"], first["epoch"]) == ("pinned", 1004)
    assert second["outcome"].startswith("not pinned: gateway at ")


@pytest.mark.parametrize("status", [403, 404, 409])
async def test_what_every_gateway_refuses_is_said_in_one_line(status, capsys):
    said = {"error": {"code": "no", "message": "expected another; found \x1b[2J this"}}
    async with a_service(answer(status, json.dumps(said).encode())) as (one, _, _):
        assert await typed(ORDER, one.http.url) == 1
    err = capsys.readouterr().err
    assert f"gateway answered {status}" in err
    assert "\x1b" not in err
