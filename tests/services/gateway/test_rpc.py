import asyncio
import json
import re
import tempfile
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from google.protobuf import descriptor_pb2
from tritonclient.grpc import service_pb2

from gyral.gateway.api.messages import PACKAGE, SERVICE, TABLE, Messages, file_descriptor
from gyral.gateway.api.rpc import RpcServer, Servicer
from gyral.kit.health import UnstartableError
from gyral.testkit.waiting import until

from .asking import raw
from .conftest import INPUTS, ROWS
from .door import MODEL, open_door

MESSAGES = Messages()
CODE = grpc.StatusCode
NOT_THIS = "expected a key that may ask this model"
LIMITS = {"max_bytes": 1 << 20, "max_calls": 2}


@pytest.fixture
async def door():
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        async with open_door(Path(folder), Path(folder, "r.sock")) as door:
            yield door


@pytest.fixture
async def channel(door):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{door.rpc_port}") as channel:
        yield channel


async def call(channel, method, content=b"", *, key="asker", **fields):
    """(code, message or answer)."""
    content = content or MESSAGES.write(f"{method}Request", **fields)
    method = channel.unary_unary(f"/{SERVICE}/{method}")
    try:
        answer = await method(
            content, metadata=(("authorization", f"Bearer {key}"),), timeout=20
        )
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details()
    return CODE.OK, answer


def described(message, prefix):
    """Each message's fields: name, number, type, whether repeated, and which message."""
    name = f"{prefix}{message.name}"
    yield (
        name,
        sorted(
            (field.name, field.number, field.type, field.label, field.type_name.split(".")[-1])
            for field in message.field
        ),
    )
    for nested in message.nested_type:
        yield from described(nested, f"{name}.")


def test_the_messages_are_those_of_the_generated_client():
    theirs = descriptor_pb2.FileDescriptorProto.FromString(service_pb2.DESCRIPTOR.serialized_pb)
    known = dict(pair for message in theirs.message_type for pair in described(message, ""))
    ours = dict(pair for m in file_descriptor().message_type for pair in described(m, ""))
    assert theirs.package == PACKAGE
    assert ours.keys() >= TABLE.keys()
    assert ours == {name: known[name] for name in ours}


def contents(name, datatype, **fields):
    shape = [len(next(iter(fields.values())))]
    return {"name": name, "datatype": datatype, "shape": shape, "contents": fields}


def typed():
    cells = {**ROWS[0], "carrier": b"AA"}
    fields = {
        "distance": "fp64_contents",
        "hour": "int64_contents",
        "carrier": "bytes_contents",
        "wet": "bool_contents",
        "wind": "fp32_contents",
    }
    return [
        contents(each.name, each.datatype.value, **{fields[each.name]: [cells[each.name]]})
        for each in INPUTS
    ]


def untyped():
    bare = [{"name": e.name, "datatype": e.datatype.value, "shape": [1]} for e in INPUTS]
    cells = {**ROWS[0], "carrier": "AA"}
    return bare, [raw(each.datatype.value, [cells[each.name]]) for each in INPUTS]


async def test_typed_and_raw_contents_are_answered_alike_and_logged(door, channel):
    bare, behind = untyped()
    for fields in (
        {"inputs": typed()},
        {"inputs": bare, "raw_input_contents": behind},
    ):
        code, answer = await call(channel, "ModelInfer", model_name=MODEL, id="mine", **fields)
        assert code == CODE.OK, answer
        said = service_pb2.ModelInferResponse.FromString(answer)
        assert (said.model_name, said.model_version, said.id) == (MODEL, "1", "mine")
        assert [output.name for output in said.outputs] == ["probability", "prediction_id"]
        if "raw_input_contents" in fields:
            assert said.raw_output_contents[0] == bytes(8)
        else:
            assert [*said.outputs[0].contents.fp64_contents] == [0.0]
    one, other = [json.loads(entry.payload) for entry in await door.remembered()]
    assert one["features"] == other["features"]
    assert one["features"]["carrier"] == ["AA"]


def changed(place, **fields):
    inputs = typed()
    inputs[place] = {**inputs[place], **fields}
    return {"inputs": inputs}


def given(**value):
    return {"priority": service_pb2.InferParameter(**value)}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"inputs": []}, "expected one for each feature"),
        ({"raw_input_contents": [b""], "inputs": []}, "expected one for each of 0 inputs"),
        ({"raw_input_contents": [b""], "inputs": typed()}, "expected one for each of 5"),
        ({"raw_input_contents": [b""] * 5, "inputs": typed()}, "either contents or raw_input"),
        (changed(0, shape=[2]), "distance: expected 2 elements in fp64_contents"),
        (changed(0, shape=[-1]), "distance: expected a shape"),
        (changed(0, shape=[2**62, 2**62]), "distance: expected a shape"),
        (changed(0, datatype="FP32"), "distance: expected fp32_contents.*found fp64_contents"),
        (changed(0, datatype="FP16"), "distance: expected one of .*, or raw_input_contents"),
        (changed(0, datatype="FP63"), "distance: expected one of"),
        (changed(0, contents={}), "distance: expected 1 elements"),
        (changed(0, contents={"fp64_contents": [np.inf]}), "distance: expected finite"),
        (changed(1, datatype="INT64", contents={"int_contents": [1]}), "hour: expected int64_"),
        (changed(1, datatype="INT8", contents={"int_contents": [128]}), "INT8, which is -128"),
        (changed(1, datatype="UINT64", contents={"uint64_contents": [1]}), "found 'UINT64'"),
        (changed(2, contents={"bytes_contents": [b"\xff"]}), "carrier: expected UTF-8"),
        ({"inputs": typed(), "outputs": [{"name": "logits"}]}, "outputs: expected probability"),
        ({"inputs": typed(), "id": "x" * 257}, "id: expected at most 256 characters"),
        ({"inputs": typed(), "parameters": given(uint64_param=3)}, "'priority' as 3"),
        (
            changed(0, parameters=given(string_param="a")),
            "inputs.distance: .*'priority' as 'a'",
        ),
        ({"inputs": typed(), "parameters": given()}, "'priority' as None"),
    ],
)
async def test_a_message_that_cannot_be_answered_says_what_is_wrong(
    door, channel, fields, said
):
    message = service_pb2.ModelInferRequest(**{"model_name": MODEL, **fields})
    code, found = await call(channel, "ModelInfer", message.SerializeToString())
    assert code == CODE.INVALID_ARGUMENT, found
    assert re.search(said, found), found
    assert await door.remembered() == []


async def test_codes_tell_who_is_at_fault(door, channel):
    ask = {"model_name": MODEL, "inputs": typed()}
    assert (await call(channel, "ModelInfer", key="nobody", **ask))[0] == CODE.UNAUTHENTICATED
    assert (await call(channel, "ModelInfer", key="sender", **ask))[0] == CODE.PERMISSION_DENIED
    assert (await call(channel, "ModelInfer", **{**ask, "model_name": "x"}))[
        0
    ] == CODE.NOT_FOUND
    for version in ("9", "x"):
        code, _ = await call(channel, "ModelInfer", **ask, model_version=version)
        assert code == CODE.NOT_FOUND
    junk = await call(channel, "ModelInfer", b"\xff\xff")
    assert junk == (CODE.INVALID_ARGUMENT, "expected a ModelInferRequest; found other bytes")
    # Who has no key learns nothing of the rest.
    assert (await call(channel, "ModelInfer", b"\xff", key="no"))[0] == CODE.UNAUTHENTICATED
    door.api.front.max_requests = 0
    assert (await call(channel, "ModelInfer", **ask))[0] == CODE.RESOURCE_EXHAUSTED
    door.api.front.max_requests = 512
    door.api.front.health.stopping = True
    assert (await call(channel, "ModelInfer", **ask))[0] == CODE.UNAVAILABLE
    door.api.front.health.stopping = False
    assert (await call(channel, "ModelStreamInfer", b"x"))[0] == CODE.UNIMPLEMENTED
    too_long = b"x" * (2 << 20)
    assert (await call(channel, "ModelInfer", too_long))[0] == CODE.RESOURCE_EXHAUSTED
    assert await door.remembered() == []


async def test_a_key_of_other_models_is_refused_by_either_protocol(door, channel):
    ask = {"model_name": MODEL, "inputs": typed()}
    code, said = await call(channel, "ModelInfer", key="stranger", **ask)
    assert (code, said) == (CODE.PERMISSION_DENIED, f"{MODEL}: {NOT_THIS}")
    code, _ = await call(channel, "ModelReady", key="stranger", name=MODEL)
    assert code == CODE.PERMISSION_DENIED
    code, _ = await call(channel, "ModelReady", key="stranger", name="another")
    assert code == CODE.NOT_FOUND
    for path in (f"/v2/models/{MODEL}/infer", f"/v1/models/{MODEL}:predict"):
        refused = await door.ask(path, b"{}", key="stranger")
        assert (refused.status_code, refused.json()["error"]) == (403, f"{MODEL}: {NOT_THIS}")
    assert await door.remembered() == []


async def test_a_call_whose_client_goes_away_does_not_count_as_answered(door, channel):
    door.peer.answer = lambda _batch: "silence"
    asking = asyncio.create_task(call(channel, "ModelInfer", model_name=MODEL, inputs=typed()))
    await asyncio.wait_for(door.peer.asked.wait(), 20)
    asking.cancel()

    def counted():
        [family] = door.api.seconds.collect()
        return {sample.labels["status"] for sample in family.samples}

    await until(lambda: "499" in counted())
    assert "200" not in counted()


async def test_the_real_client_finds_its_way(door):
    headers = {"authorization": "Bearer asker", "x-sticky-key": "a"}
    async with triton.InferenceServerClient(f"127.0.0.1:{door.rpc_port}") as client:
        assert await client.is_server_live()
        await client.is_server_ready()
        about = await client.get_server_metadata()
        assert about.name == "gyral"
        assert await client.is_model_ready(MODEL, "1", headers=headers)
        model = await client.get_model_metadata(MODEL, headers=headers)
        assert [port.name for port in model.inputs][:5] == [each.name for each in INPUTS]
        assert {tuple(port.shape) for port in model.inputs} == {(-1,)}
        inputs = []
        for each in INPUTS:
            cells = np.array([{**ROWS[0], "carrier": "AA"}[each.name]])
            kinds = {"BYTES": np.object_, "FP32": np.float32}
            tensor = triton.InferInput(each.name, [1], each.datatype.value)
            tensor.set_data_from_numpy(cells.astype(kinds.get(each.datatype, cells.dtype)))
            inputs.append(tensor)
        answer = await client.infer(MODEL, inputs, request_id="7", headers=headers)
        assert answer.as_numpy("probability").tolist() == [0.0]
        [prediction_id] = answer.as_numpy("prediction_id")
        assert prediction_id.decode().endswith("-0")
        assert answer.get_response().id == "7"
    assert len(await door.remembered()) == 1


async def test_a_shadow_is_asked_once_the_answer_is_gone_and_logged(door, channel):
    front = door.api.front
    route = front.table.routes()[0]
    [live] = route.shares
    shadow = live.model_copy(update={"version": 2, "weight": 0, "shadow": True})
    front.table.follow(MODEL, route.model_copy(update={"epoch": 2, "shares": (live, shadow)}))
    code, answer = await call(channel, "ModelInfer", model_name=MODEL, inputs=typed())
    assert code == CODE.OK
    assert service_pb2.ModelInferResponse.FromString(answer).model_version == "1"
    async with asyncio.timeout(20):
        await front.answering.shadows.settled(MODEL)
    logged = [json.loads(entry.payload) for entry in await door.remembered()]
    assert {(entry["version"], entry["role"]) for entry in logged} == {
        (1, "live"),
        (2, "shadow"),
    }
    assert len({entry["request_id"] for entry in logged}) == 1


async def test_a_port_that_is_taken_stops_the_start_with_what_to_do(door):
    servicer = Servicer(door.api.front, door.api.seconds, door.api.spans)
    other = RpcServer(servicer, host="127.0.0.1", port=door.rpc_port, **LIMITS)
    with pytest.raises(UnstartableError, match="Set GATEWAY_GRPC_PORT to another port"):
        await other.start()


def half(channel, key):
    """A call whose message does not come."""
    method = channel.stream_unary(f"/{SERVICE}/ModelInfer")
    return method(metadata=(("authorization", f"Bearer {key}"),), timeout=20)


async def test_calls_without_a_key_are_refused_before_their_messages_come(door, channel):
    calls = [half(channel, "nobody") for _ in range(200)]
    assert {await call.code() for call in calls} == {CODE.UNAUTHENTICATED}
    live = channel.stream_unary(f"/{SERVICE}/ServerLive")(timeout=20)
    assert MESSAGES.read("ServerLiveResponse", await live) == MESSAGES.read(
        "ServerLiveResponse", MESSAGES.write("ServerLiveResponse", live=True)
    )
    ask = {"model_name": MODEL, "inputs": typed()}
    assert (await call(channel, "ModelInfer", **ask))[0] == CODE.OK


@pytest.mark.parametrize("key", ["asker", "nobody"])
async def test_a_message_that_would_grow_when_unpacked_is_refused(door, channel, key):
    bomb = MESSAGES.write("ModelInferRequest", raw_input_contents=[bytes(1_000_000)])
    method = channel.unary_unary(f"/{SERVICE}/ModelInfer")
    asking = method(
        bomb,
        metadata=(("authorization", f"Bearer {key}"),),
        compression=grpc.Compression.Gzip,
        timeout=20,
    )
    assert await asking.code() == CODE.UNIMPLEMENTED
    assert "compression" in (await asking.details()).lower()


async def test_more_calls_than_may_be_at_once_are_refused(door):
    servicer = Servicer(door.api.front, door.api.seconds, door.api.spans)
    server = RpcServer(servicer, host="127.0.0.1", port=0, **LIMITS)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            held = [half(channel, "asker") for _ in range(LIMITS["max_calls"])]

            async def full():
                # Asking whether it is full takes a call, for which one of those was refused.
                held[:] = [half(channel, "asker") if each.done() else each for each in held]
                return (await call(channel, "ServerLive"))[0] == CODE.RESOURCE_EXHAUSTED

            await until(full)
            for each in held:
                each.cancel()

            async def free():
                return (await call(channel, "ServerLive"))[0] == CODE.OK

            await until(free)
    finally:
        await server.stop()
