"""The runtime's control routes against callers that are early, slow or hostile."""

import asyncio
import json

import pytest
from fastapi.routing import iter_route_contexts

from gyral.kit import bodies
from tests.services.gateway.test_door import HOSTILE, NAMES

from .control import KEY, cached, controlled


@pytest.fixture
async def control(tmp_path):
    async with controlled(tmp_path) as (client, api):
        yield client, api


def paths(api):
    """Every path there is, and the methods it takes."""
    return {
        route.path: route.methods for route in iter_route_contexts(api.routes) if route.path
    }


async def test_a_full_runtime_asks_to_be_asked_again(tmp_path, files):
    known = cached(tmp_path, "m@1", files)
    body = {name: ref.model_dump() for name, ref in zip(PARTS, refs(known), strict=True)}
    async with controlled(tmp_path, max_models=1) as (client, _):
        full = await client.post("/v2/repository/models/m@2/load", json=body)
        assert (full.status_code, full.json()["error"]["code"]) == (503, "full")
        assert int(full.headers["retry-after"]) > 0
        assert "found 1, as many as RUNTIME_MAX_MODELS allows" in full.text
        listed = (await client.post("/v2/repository/index")).json()
        assert [(slot["name"], slot["state"]) for slot in listed] == [("m@1", "READY")]
        assert (await client.post("/v2/repository/models/m@1/unload")).status_code == 200
        # The next one is let in, and fails for another reason: there is no store here.
        let_in = await client.post("/v2/repository/models/m@2/load", json=body)
        assert (let_in.status_code, let_in.json()["error"]["code"]) == (503, "store_away")


PARTS = ("onnx", "manifest", "golden")


def refs(files):
    return (files.model, files.manifest, files.golden)


async def raw(client, *sent):
    """Send pieces as they are and return everything until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    for piece in sent:
        writer.write(piece)
        await writer.drain()
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


def head(path, *lines, method="POST"):
    first = (f"{method} {path} HTTP/1.1", "Host: a", f"Authorization: Bearer {KEY}")
    return "".join(f"{line}\r\n" for line in (*first, *lines)).encode() + b"\r\n"


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_a_hostile_body_is_the_callers_fault_on_every_route_that_reads_one(
    control, hostile
):
    client, api = control
    assert "/v2/repository/models/{slot}/load" in paths(api)
    for path, methods in paths(api).items():
        where = path.format(slot="m@1")
        answer = await client.post(where, content=HOSTILE[hostile])
        reads = path.endswith("/load") or "POST" not in methods
        assert 400 <= answer.status_code < 500 if reads else answer.status_code == 200, path
        assert "Traceback" not in answer.text


@pytest.mark.parametrize("name", [*NAMES, "m@", "m@1@2", "M@1", "m@1%0a"])
async def test_a_malformed_slot_is_the_callers_fault_on_every_route(control, name):
    client, api = control
    named = [path for path in paths(api) if "{slot}" in path]
    assert len(named) == 3
    for path in (*named, "/v2/repository/models/{slot}", "/v2/{slot}", "/{slot}"):
        for method in ("GET", "POST"):
            where = path.format(slot=name)
            lines = ("Content-Length: 2", "Connection: close")
            answer = await raw(client, head(where, *lines, method=method) + b"{}")
            assert answer.startswith(b"HTTP/1.1 4"), (where[:80], method, answer)


async def test_a_body_that_does_not_come_is_given_up_and_hung_up_on(control, monkeypatch):
    client, _ = control
    monkeypatch.setitem(bodies.read_body.__kwdefaults__, "timeout_s", 0.2)
    where = "/v2/repository/models/m@1/load"
    answer = await raw(client, head(where, "Content-Length: 90"), b'{"onnx"')
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_timeout"
