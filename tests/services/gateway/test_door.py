"""What the gateway lets in: times, keys, slow and hostile requests, on every route it has."""

import json
import re
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts

from gyral.gateway.api import bodies
from gyral.gateway.api.metadata import target_of
from gyral.kit.frames import Kind

from .conftest import INPUTS, ROWS, infer_body
from .door import MODEL, open_door

INFER = f"/v2/models/{MODEL}/infer"
MARK = f"/v1/models/{MODEL}/watermark"


@pytest.fixture
async def door():
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        async with open_door(Path(folder), Path(folder, "r.sock")) as door:
            yield door


def in_us(seconds):
    return (time.time_ns() // 1000) + seconds * 1_000_000


def a_body(**more):
    return json.dumps(infer_body(ROWS, **more)).encode()


async def test_a_row_may_be_of_the_past_but_not_of_the_future(door):
    past = a_body(event_time=[1, in_us(-9), in_us(200)])
    assert (await door.ask(INFER, past)).status_code == 200
    ahead = in_us(400)
    refused = await door.ask(INFER, a_body(event_time=[1, ahead, 3]))
    assert refused.status_code == 400
    assert "event_time: expected µs UTC of at most" in refused.json()["error"]
    assert f"found {ahead}" in refused.json()["error"]
    assert len(await door.remembered()) == 1


async def test_a_failed_version_is_remembered_though_nobody_could_stand_in_for_it(door):
    table = door.api.front.table
    route = table.get(MODEL).route
    [first] = route.shares
    second = first.model_copy(update={"version": 2, "slot": f"{MODEL}@2", "weight": 99})
    shares = (first.model_copy(update={"weight": 1}), second)
    table.follow(MODEL, route.model_copy(update={"epoch": 2, "shares": shares}))
    door.api.front.answering.fleet.follow(table.routes())
    door.peer.answer = lambda batch: (Kind.FAILED, f"{batch.slot}: broken".encode())
    refused = await door.client.post(
        INFER, content=a_body(), headers={"authorization": "Bearer asker", "x-sticky-key": "a"}
    )
    assert refused.status_code >= 400
    [entry] = await door.remembered()
    logged = json.loads(entry.payload)
    assert (logged["version"], logged["role"]) == (2, "shadow")
    assert (logged["error"], logged["probabilities"]) == (f"{MODEL}@2: broken", [None] * 3)


async def mark(door, event_time, key="sender"):
    return await door.ask(MARK, json.dumps({"event_time": event_time}).encode(), key=key)


async def test_a_marker_may_be_of_the_past_but_not_of_the_future(door):
    for past in ("2013-01-01T00:00:00Z", datetime.now(UTC).isoformat()):
        assert (await mark(door, past)).status_code == 202
    far = (datetime.now(UTC) + timedelta(seconds=400)).isoformat()
    for never in (far, "9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00:00+23:59"):
        refused = await mark(door, never)
        assert refused.status_code == 422, refused.text
        error = refused.json()["error"]
        assert error["field"] == "event_time"
        assert "expected a time from 1970 to" in error["message"]
        assert f"found {never[:20]}" in error["message"]
    assert len(await door.remembered()) == 2


async def test_who_may_ask_for_predictions_may_not_move_a_models_time(door):
    for key in ("asker", "reader"):
        refused = await mark(door, "2013-01-01T00:00:00Z", key=key)
        assert refused.status_code == 403
        assert "expected a key with scope ingest" in refused.text
    assert await door.remembered() == []


@pytest.mark.parametrize(
    ("was", "instead", "key"),
    [
        ('"inputs": [', '"inputs": [], "inputs": [', "inputs"),
        ('"inputs": [', '"inputs" : [], "inputs": [', "inputs"),
        ('"shape": [3]', '"shape": [1], "shape": [3]', "shape"),
        ('"shape": [3]', '"shape": [3], "\\u0073hape": [3]', "shape"),
        ('"shape": [3]', '"parameters": {"a": 1, "a": 2}, "shape": [3]', "a"),
        ('"never seen"', '"at: once", "x"', None),
    ],
)
async def test_a_key_that_comes_twice_is_refused_and_named(door, was, instead, key):
    body = a_body().decode()
    assert was in body
    refused = await door.ask(INFER, body.replace(was, instead, 1).encode())
    assert refused.status_code == 400
    twice = f"{key}: expected a key once in its object; found it 2 times"
    assert (twice in refused.json()["error"]) == (key is not None)
    assert await door.remembered() == []


async def test_texts_with_colons_are_still_answered(door):
    body = infer_body(ROWS, id='a":b', parameters={"content_type": "pd"})
    answer = await door.ask(INFER, json.dumps(body).encode())
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == 'a":b'


@pytest.mark.parametrize(
    ("place", "more", "said"),
    [
        ((), {"parameters": {"priority": 3}}, "parameters: .* found 'priority' as 3"),
        ((), {"parameters": {"timeout": 3}}, "found 'timeout' as 3"),
        ((), {"parameters": {"sequence_id": "a"}}, "found 'sequence_id' as 'a'"),
        ((), {"parameters": {"content_type": "base64"}}, "found 'content_type' as 'base64'"),
        ((), {"parameters": {"binary_data_output": 1}}, "expected bool; found 1"),
        ((), {"parameters": {"a": {}}}, "parameters"),
        ((), {"output": []}, "unknown field `output`"),
        ((), {"outputs": [{"name": "probability", "parameters": {"classification": 2}}]}, ""),
        ((), {"outputs": [{"name": "probability"}, {"name": "probability"}]}, "found it twice"),
        (("inputs", 0), {"parameters": {"binary_data_size": 8}}, "binary_data_size"),
        (("inputs", 0), {"parameters": {"shared_memory_region": "a"}}, "shared_memory_region"),
        (("inputs", 0), {"shapes": [3]}, "unknown field `shapes`"),
    ],
)
async def test_what_the_gateway_does_not_do_is_refused_and_never_ignored(
    door, place, more, said
):
    body = infer_body(ROWS)
    at = body
    for step in place:
        at = at[step]
    at.update(more)
    refused = await door.ask(INFER, json.dumps(body).encode())
    assert refused.status_code == 400
    assert re.search(said, refused.json()["error"]), refused.text
    assert await door.remembered() == []


def head(path, *lines, method="POST", key="asker"):
    all_lines = (
        f"{method} {path} HTTP/1.1",
        "Host: a",
        f"Authorization: Bearer {key}",
        *lines,
    )
    return "".join(f"{line}\r\n" for line in all_lines).encode() + b"\r\n"


@pytest.mark.parametrize("sent", [b"", b'{"inputs": [', b'{"inputs": [\n'])
@pytest.mark.parametrize("length", ["Content-Length: 900", "Transfer-Encoding: chunked"])
async def test_a_body_that_does_not_come_is_given_up_with_408(door, monkeypatch, sent, length):
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.2)
    piece = b"%x\r\n%s\r\n" % (len(sent), sent) if "chunked" in length and sent else sent
    answer = await door.talk(head(INFER, length), piece)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"expected the whole body within 0.2 s; found %d bytes" % len(sent) in answer
    assert await door.remembered() == []


@pytest.mark.parametrize(
    "request_",
    [
        head(INFER, "Content-Length: 2", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        head(INFER, "Content-Length: 2").replace(b"Host: a\r\n", b"Host: a\n") + b"{}",
        head(INFER, "Transfer-Encoding: chunked") + b"2\n{}\n0\n\n",
    ],
)
async def test_a_request_with_two_ends_or_bare_line_feeds_is_refused(door, request_):
    assert (await door.talk(request_)).count(b"HTTP/1.1 400 Bad Request") == 1


def routes(api):
    """Every path the gateway answers, the model filled in."""
    rest = {route.path for route in iter_route_contexts(api.rest.routes) if route.path}
    versions = ("", "/versions/1")
    v2 = {f"/v2/models/{{model}}{v}{a}" for v in versions for a in ("", "/ready", "/infer")}
    plain = {f"/v1/models/{{model}}{v}:predict" for v in versions}
    others = {"/v2", "/v2/health/live", "/v2/health/ready", "/nowhere"}
    return sorted(rest | v2 | plain | others)


HOSTILE = {
    "deep arrays": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and closed": b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep and ignored": b'{"inputs":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "5,000 digits": b'{"inputs":' + b"9" * 5000 + b',"event_time":' + b"9" * 5000 + b"}",
    "NaN": b'{"inputs":[NaN],"event_time":NaN}',
    "Infinity": b'{"inputs":[-Infinity],"event_time":Infinity}',
    "1e999": b'{"inputs":[1e999],"event_time":1e999}',
    "bad UTF-8": b'{"inputs":["\xff\xfe\xc3("],"event_time":"\xff"}',
    "UTF-16": '{"inputs":[],"event_time":"2013-01-01T00:00:00Z"}'.encode("utf-16"),
    "twice": b'{"inputs":[],"inputs":[],"event_time":"2013-01-01T00:00:00Z","event_time":""}',
    "lone surrogate": b'{"inputs":["\\ud800"],"event_time":"\\ud800"}',
    "nothing": b"",
    "no object": b"[]",
}


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_a_hostile_body_is_the_callers_fault_on_every_route(door, hostile):
    for path in routes(door.api):
        answer = await door.ask(path.format(model=MODEL), HOSTILE[hostile], key="root")
        assert 400 <= answer.status_code < 500, (path, answer.text)
        assert answer.json()["error"], path
        assert "Traceback" not in answer.text
    assert await door.remembered() == []


CELLS = ["9" * 5000, "NaN", "Infinity", "1e999", "[" * 900 + "]" * 900, '{"a":1,"a":1}']


@pytest.mark.parametrize("cell", CELLS, ids=range(len(CELLS)))
@pytest.mark.parametrize("name", [*(each.name for each in INPUTS), "entity_key", "event_time"])
async def test_a_hostile_cell_is_refused_in_every_input(door, name, cell):
    good = infer_body(ROWS, entity_key=["a", "b", "c"], event_time=[1, 2, 3])
    [tensor] = [each for each in good["inputs"] if each["name"] == name]
    tensor["data"][1] = "HERE"
    body = json.dumps(good).replace('"HERE"', cell).encode()
    answer = await door.ask(INFER, body)
    assert answer.status_code == 400, answer.text
    assert await door.remembered() == []


NAMES = [
    "%ff%fe",
    "%00",
    "a%00b",
    "%2f",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%252f",
    "..",
    "a" * 5000,
    "%f0%9f%98%80" * 500,
    "%ed%a0%80",
    "%0d%0aX:%20y",
    "%",
    "%zz",
    "-1",
    "9" * 30,
    "%d9%a3",
    "'%20OR%201=1",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_a_malformed_name_in_a_path_is_the_callers_fault_on_every_route(door, name):
    paths = [path for path in routes(door.api) if "{model}" in path]
    assert len(paths) == 11
    bad = [path.format(model=name) for path in paths]
    places = ("", "/v2", "/v1/models", f"/v1/models/{MODEL}", f"/v2/models/{MODEL}")
    version = f"/v2/models/{MODEL}/versions/{name}"
    bad += [f"{before}/{name}" for before in places]
    bad += [version, f"{version}/ready", f"{version}/infer", f"/v2/models%2f{MODEL}/infer"]
    for path in bad:
        for method in ("GET", "POST"):
            lines = ("Content-Length: 2", "Connection: close")
            answer = await door.talk(head(path, *lines, method=method, key="root") + b"{}")
            # A name that could be one cannot be told from a model's before routes are read.
            early = path.endswith("/pin") and b"not read to its end yet" in answer
            assert early or answer.startswith(b"HTTP/1.1 4"), (path[:80], method, answer)
            assert b"\r\nX: y" not in answer
    assert await door.remembered() == []


async def test_a_path_longer_than_any_name_is_not_kept_in_mind(door):
    kept = target_of.cache_info().currsize
    for path in ("/v2/models/{}/infer", "/v2/models/{}/versions/1", "/v1/models/{}:predict"):
        assert (await door.ask(path.format("x" * 64))).status_code == 404
    assert target_of.cache_info().currsize == kept
    assert (await door.ask(f"/v2/models/{'x' * 63}/infer")).status_code == 404
    assert target_of.cache_info().currsize == kept + 1
