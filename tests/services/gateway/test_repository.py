import json
import tempfile
from pathlib import Path

import grpc.aio
import pytest
from tritonclient.grpc import service_pb2

from gyral.kit.frames import Kind
from gyral.testkit.waiting import until

from .conftest import ROWS, infer_body
from .door import MODEL, halves, open_door
from .peer import Peer
from .test_rpc import CODE, call

INDEX = "/v2/repository/index"


@pytest.fixture
async def door():
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        async with open_door(Path(folder), Path(folder, "r.sock")) as door:
            answer = await door.ask(
                f"/v2/models/{MODEL}/infer", json.dumps(infer_body(ROWS)).encode()
            )
            assert answer.status_code == 200  # so the runtime is connected
            yield door


def not_loaded(batch):
    return Kind.NOT_LOADED, f"{batch.slot}: expected sha256 0; found nothing".encode()


async def test_the_index_says_what_each_runtime_holds(door):
    held = {"name": MODEL, "version": "1", "state": "READY", "reason": ""}
    for body in (b"", b"{}", b'{"ready": true}'):
        answer = await door.ask(INDEX, body, key="root")
        assert (answer.status_code, answer.json()) == (200, [held])
    door.peer.answer = not_loaded
    [lost] = (await door.ask(INDEX, key="root")).json()
    assert lost["state"] == "UNAVAILABLE"
    assert "expected sha256 0; found nothing" in lost["reason"]
    assert (await door.ask(INDEX, b'{"ready": true}', key="root")).json() == []
    await door.peer.kill()
    [away] = (await door.ask(INDEX, key="root")).json()
    assert (away["state"], away["reason"]) == ("UNAVAILABLE", "the runtime is away")
    door.peer.answer = halves
    await door.peer.start()


async def test_the_index_over_grpc_is_the_same(door):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{door.rpc_port}") as channel:
        code, answer = await call(channel, "RepositoryIndex", b"", key="root")
        assert code == CODE.OK
        [listed] = service_pb2.RepositoryIndexResponse.FromString(answer).models
        assert (listed.name, listed.version, listed.state) == (MODEL, "1", "READY")
        denied = await call(channel, "RepositoryIndex", b"", key="asker")
        assert denied[0] == CODE.PERMISSION_DENIED
        other = await call(channel, "RepositoryIndex", key="root", repository_name="x")
        assert other[0] == CODE.INVALID_ARGUMENT


async def test_nothing_is_loaded_past_the_registry(door):
    for change in ("load", "unload"):
        path = f"/v2/repository/models/{MODEL}/{change}"
        refused = await door.ask(path, b"{}", key="root")
        assert refused.status_code == 409
        assert "`gyral rollout`" in refused.json()["error"]
        assert (await door.ask(path, b"{}")).status_code == 403


@pytest.mark.parametrize("body", [b"[]", b'{"ready": 1}', b'{"x": 1}', b"\xff", b"[" * 4000])
async def test_what_is_no_question_about_the_index_is_refused(door, body):
    refused = await door.ask(INDEX, body, key="root")
    assert refused.status_code == 400, refused.text
    assert json.loads(refused.content)["error"]
    nowhere = await door.ask("/v2/repository/nowhere", body, key="root")
    assert nowhere.status_code == 404


async def test_the_index_says_how_many_of_a_routes_runtimes_hold_a_version(door):
    second = Peer(door.peer.path.with_name("second.sock"))
    second.answer = halves
    await second.start()
    front = door.api.front
    [route] = front.table.routes()
    replicas = (f"unix:{second.path}",)
    front.table.follow(MODEL, route.model_copy(update={"epoch": 2, "replicas": replicas}))
    front.answering.fleet.follow(front.table.routes())

    async def listed():
        [each] = (await door.ask(INDEX, key="root")).json()
        return each["state"], each["reason"]

    async def both():
        return await listed() == ("READY", "")

    await until(both)
    second.answer = not_loaded
    state, reason = await listed()
    assert state == "UNAVAILABLE"
    assert reason.startswith("1 of 2 runtimes hold it: delay@1: expected sha256 0")
    await second.kill()
    assert await listed() == ("UNAVAILABLE", "1 of 2 runtimes hold it: the runtime is away")
