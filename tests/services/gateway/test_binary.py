import json
import re
import struct
import tempfile
from array import array
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.contracts.deployment import Datatype, Input
from gyral.gateway.api.datatypes import KINDS
from gyral.gateway.api.requests import read_request
from gyral.gateway.api.tensors import BadRequestError

from .asking import binary, expected, features, one_a_feature, raw, read
from .conftest import INPUTS, ROWS, infer_body
from .door import MODEL, open_door

INFER = f"/v2/models/{MODEL}/infer"


def read_binary(tensors, inputs=INPUTS, **more):
    body, header = binary(tensors, **more)
    return read(read_request(body, header, expected(inputs)), inputs)


doubles = st.floats(allow_nan=False, allow_infinity=False)
single = st.floats(allow_nan=False, allow_infinity=False, width=32)
longs = st.integers(-(2**63), 2**63 - 1)
texts = st.text(max_size=5)
rows = st.lists(st.tuples(st.none() | doubles, longs, texts, st.booleans(), single), min_size=1)


def column(datatype, cells):
    return raw(datatype, [np.nan if cell is None else cell for cell in cells])


@given(rows)
def test_binary_tensors_are_read_and_logged_as_json_is(rows):
    sent = [
        (each.name, [len(rows)], each.datatype.value, column(each.datatype.value, cells))
        for each, cells in zip(INPUTS, zip(*rows, strict=True), strict=True)
    ]
    assert read_binary(sent) == features(one_a_feature(rows, INPUTS), INPUTS)


WIDENS = {
    "BOOL": {"BOOL"},
    "UINT8": {"INT64", "FP32", "FP64"},
    "UINT16": {"INT64", "FP32", "FP64"},
    "UINT32": {"INT64", "FP64"},
    "UINT64": set(),
    "INT8": {"INT64", "FP32", "FP64"},
    "INT16": {"INT64", "FP32", "FP64"},
    "INT32": {"INT64", "FP64"},
    "INT64": {"INT64"},
    "FP16": {"FP32", "FP64"},
    "BF16": {"FP32", "FP64"},
    "FP32": {"FP32", "FP64"},
    "FP64": {"FP64"},
    "BYTES": {"BYTES"},
}
EXTREMES: dict[str, list[float]] = {
    "BOOL": [True, False],
    "FP16": [65504.0, -(2.0**-24)],
    "BF16": [3.3895313892515355e38, -(2.0**-130)],
    "FP32": [3.4028234663852886e38, -(2.0**-149)],
    "FP64": [1.7976931348623157e308, -5e-324],
    **{
        name: [int(np.iinfo(name.lower()).min), int(np.iinfo(name.lower()).max)]
        for name in WIDENS
        if "INT" in name
    },
}


@pytest.mark.parametrize("declared", Datatype)
@pytest.mark.parametrize("sent", WIDENS)
def test_a_datatype_is_taken_where_the_input_holds_it_exactly(sent, declared):
    assert KINDS.keys() == WIDENS.keys()
    inputs = (Input(name="x", datatype=declared),)
    cells = EXTREMES.get(sent, ["", "Grüße"])
    tensors = [("x", [2], sent, raw(sent, cells))]
    as_json = {"name": "x", "shape": [2], "datatype": sent, "data": cells}
    if declared not in WIDENS[sent]:
        for refuse in (
            lambda: read_binary(tensors, inputs),
            lambda: features([as_json], inputs),
        ):
            with pytest.raises(BadRequestError, match=f"x: expected {declared}.*'{sent}'"):
                refuse()
        return
    [found], logged = read_binary(tensors, inputs)
    numbers = found if isinstance(found, list) else array("d", found).tolist()
    assert numbers == (cells if isinstance(found, list) else [float(cell) for cell in cells])
    assert logged["x"] == cells
    if sent in ("FP16", "BF16"):
        with pytest.raises(BadRequestError, match=f"x: expected {sent} as binary data"):
            features([as_json], inputs)
    else:
        assert features([as_json], inputs) == ([found], logged)


@pytest.mark.parametrize("sent", ["UINT8", "INT8", "INT32", "UINT32", "INT64"])
def test_a_number_beyond_its_datatype_is_refused_in_json(sent):
    inputs = (Input(name="x", datatype=Datatype.INT64),)
    for cell in (KINDS[sent].most + 1, KINDS[sent].least - 1):
        with pytest.raises(BadRequestError, match="x: "):
            features([{"name": "x", "shape": [1], "datatype": sent, "data": [cell]}], inputs)


ONE = (Input(name="x", datatype=Datatype.FP64), Input(name="t", datatype=Datatype.BYTES))
X = ("x", [1], "FP64", raw("FP64", [1.5]))
T = ("t", [1], "BYTES", raw("BYTES", ["a"]))


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (
            [("x", [1], "FP64", b"1234567"), T],
            "x: expected 8 bytes, as FP64 of shape .* found 7",
        ),
        ([("x", [2**63], "FP64", b""), T], "x: expected a shape of at most 1048576 elements"),
        ([("x", [-1], "FP64", b""), T], "x: expected a shape of at most 1048576 elements"),
        ([("x", [2**20, 2**20], "FP64", b""), T], "x: expected a shape of at most"),
        ([("x", [0], "FP64", b""), T], "x: expected 1 to 256 rows"),
        ([("x", [1], "FP63", b"12345678"), T], "x: expected one of BOOL, .* found 'FP63'"),
        ([("x", [1], "FP64", raw("FP64", [np.inf])), T], "x: expected finite numbers"),
        ([("x", [1], "FP64", raw("FP64", [np.nan])), T], "x: expected a number in each row"),
        ([("x", [1], "BOOL", b"\2"), T], "x: expected 0 or 1 a BOOL; found 2"),
        ([X, ("t", [1], "BYTES", b"\1\0\0")], "t: expected 1 elements in 3 bytes; found 0"),
        ([X, ("t", [1], "BYTES", b"\2\0\0\0a")], "t: expected 2 bytes of element 0; found 1"),
        ([X, ("t", [1], "BYTES", b"\xff\xff\xff\xffa")], "t: expected 4294967295 bytes"),
        ([X, ("t", [1], "BYTES", b"\1\0\0\0ab")], "t: expected 1 elements in 6 bytes"),
        ([X, ("t", [1], "BYTES", b"\1\0\0\0\xff")], "t: expected UTF-8; found the byte 0xff"),
        ([X, ("t", [2], "BYTES", raw("BYTES", ["a"]))], "t: expected 2 elements"),
        ([("y", [1], "FP64", X[3]), X, T], "y: expected one of t, x"),
    ],
)
def test_bytes_that_are_not_what_the_tensor_says_are_refused(tensors, said):
    with pytest.raises(BadRequestError, match=said):
        read_binary(tensors, ONE)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (lambda n, _: n - 1, "JSON|truncated"),
        (lambda n, _: n + 1, "JSON"),
        (lambda n, size: size - n, "JSON|truncated"),
        (lambda _, size: size + 1, "within the .* bytes of the body; found"),
        (lambda *_: 0, "as a body of raw bytes alone says nothing of which input they are"),
        (lambda *_: -1, "found '-1'"),
        (lambda *_: 10**30, "found '1000"),
        (lambda *_: "", "found ''"),
        (lambda *_: "1e2", "found '1e2'"),
        (lambda *_: "²", "found"),
    ],
)
def test_a_header_that_lies_about_the_json_is_refused(header, said):
    body, true = binary([X, T])
    lie = str(header(int(true), len(body))).encode("latin-1")
    with pytest.raises(BadRequestError, match=said):
        read_request(body, lie, expected(ONE))


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (9, "expected 8 bytes"),
        (7, "expected 8 bytes"),
        (99, "at most the 13 bytes that are left; found 99"),
        (-8, "at most the 13 bytes that are left; found -8"),
        (2**64, "at most the 13 bytes that are left"),
        (8.0, "expected int; found 8.0"),
        (True, "expected int; found True"),
        ("8", "expected int; found '8'"),
    ],
)
def test_sizes_that_do_not_add_up_are_refused(size, said):
    body, header = binary([X, T])
    text = json.loads(body[: int(header)])
    text["inputs"][0]["parameters"]["binary_data_size"] = size
    lying = json.dumps(text).encode()
    with pytest.raises(BadRequestError, match=said):
        read_request(lying + body[int(header) :], b"%d" % len(lying), expected(ONE))


def test_bytes_that_belong_to_no_tensor_and_tensors_with_data_twice_are_refused():
    body, header = binary([X, T])
    with pytest.raises(BadRequestError, match="expected 13 bytes behind the JSON"):
        read_request(body + b"x", header, expected(ONE))
    text = json.loads(body[: int(header)])
    text["inputs"][0]["data"] = [1.5]
    twice = json.dumps(text).encode()
    with pytest.raises(BadRequestError, match="expected either data or binary_data_size"):
        read_request(twice + body[int(header) :], b"%d" % len(twice), expected(ONE))


@pytest.fixture
async def door():
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        async with open_door(Path(folder), Path(folder, "r.sock")) as door:
            yield door


async def ask(door, body, header=None):
    headers = {"authorization": "Bearer asker"}
    if header is not None:
        headers["inference-header-content-length"] = header.decode()
    return await door.client.post(INFER, content=body, headers=headers)


def parts(answer):
    """The JSON of an answer, and each binary output's bytes."""
    length = int(answer.headers["inference-header-content-length"])
    said, rest, outputs = json.loads(answer.content[:length]), answer.content[length:], {}
    for output in said["outputs"]:
        if "parameters" in output:
            size = output["parameters"]["binary_data_size"]
            outputs[output["name"]], rest = rest[:size], rest[size:]
    assert rest == b""
    assert answer.headers["content-type"] == "application/octet-stream"
    return said, outputs


async def test_a_binary_request_is_answered_and_its_id_echoed(door):
    sent = [
        (each.name, [3, 1], each.datatype.value, column(each.datatype.value, cells))
        for each in INPUTS
        if (cells := [row[each.name] if row[each.name] is not None else np.nan for row in ROWS])
        and each.name != "carrier"
    ]
    sent.append(("carrier", [3], "BYTES", raw("BYTES", ["a", "b", "c"])))
    sent.append(("entity_key", [3], "BYTES", raw("BYTES", ["k", "l", "m"])))
    sent.append(("event_time", [3], "INT64", raw("INT64", [1, 2, 3])))
    answer = await ask(door, *binary(sent, id="mine", parameters={"binary_data_output": True}))
    said, outputs = parts(answer)
    assert said["id"] == "mine"
    assert outputs["probability"] == bytes(24)
    request_id = answer.headers["x-gyral-request-id"]
    ids = [f"{request_id}-{row}".encode() for row in range(3)]
    assert outputs["prediction_id"] == b"".join(struct.pack("<I", len(i)) + i for i in ids)
    [entry] = [json.loads(each.payload) for each in await door.remembered()]
    assert entry["entity_keys"] == ["k", "l", "m"]
    assert entry["event_times"] == [1, 2, 3]
    assert entry["features"]["distance"] == [0.5, None, -2.0]


async def test_each_output_is_as_it_was_asked_for(door):
    both = [
        {"name": "prediction_id"},
        {"name": "probability", "parameters": {"binary_data": True}},
    ]
    said, outputs = parts(await ask(door, json.dumps(infer_body(ROWS, outputs=both)).encode()))
    assert [output["name"] for output in said["outputs"]] == ["prediction_id", "probability"]
    assert outputs.keys() == {"probability"}
    assert len(said["outputs"][0]["data"]) == 3
    one = [{"name": "probability", "parameters": {"binary_data": False}}]
    body = infer_body(ROWS, outputs=one, parameters={"binary_data_output": True})
    answer = await ask(door, json.dumps(body).encode())
    assert [output["data"] for output in answer.json()["outputs"]] == [[0.0] * 3]


async def test_the_extension_is_declared_and_a_lie_costs_nothing(door):
    about = (await door.client.get("/v2")).json()
    assert "binary_tensor_data" in about["extensions"]
    refused = await ask(door, json.dumps(infer_body(ROWS)).encode(), b"3")
    assert refused.status_code == 400
    assert re.search("truncated|JSON", refused.json()["error"])
    assert await door.remembered() == []
