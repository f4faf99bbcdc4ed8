import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.contracts.deployment import Datatype, Input
from gyral.gateway.api.tensors import BadRequestError

from .asking import NUMERIC, features, one_a_feature
from .conftest import ROWS
from .door import MODEL, open_door

ORDER = tuple(each.name for each in NUMERIC)


def packed(rows, datatype="FP32", *, nested=False, **tensor):
    cells = [[*row] for row in rows] if nested else [cell for row in rows for cell in row]
    shape = [len(rows), len(rows[0])]
    return {"name": "features", "shape": shape, "datatype": datatype, "data": cells, **tensor}


def numbers(rows):
    return [[cell if cell is None else float(cell) for cell in row] for row in rows]


single = st.floats(allow_nan=False, allow_infinity=False, width=32)
whole = st.integers(-(2**24), 2**24)
rows = st.lists(st.tuples(st.none() | single, whole, st.booleans(), single), min_size=1)


@given(rows, st.booleans())
def test_packed_features_are_read_and_logged_as_one_tensor_a_feature_is(rows, nested):
    sent = features([packed(numbers(rows), nested=nested)])
    assert sent == features(one_a_feature(rows))


@given(st.lists(st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 2), min_size=1))
def test_whole_numbers_of_any_size_go_packed_as_int64(rows):
    inputs = (NUMERIC[1], Input(name="minute", datatype=Datatype.INT64))
    sent = features([packed(rows, "INT64")], inputs)
    assert sent == features(one_a_feature(rows, inputs), inputs)


KEY = {"name": "entity_key", "shape": [1], "datatype": "BYTES", "data": ["a"]}
GOOD = [0.5, 3, 1, 0.25]


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ([packed([GOOD[:3]])], r"expected shape \[rows, 4\].*found \[1, 3\]"),
        ([packed([GOOD], shape=[4])], r"expected shape \[rows, 4\].*found \[4\]"),
        ([packed([GOOD], shape=[0, 4])], "expected 1 to 256 rows"),
        ([packed([GOOD], shape=[2**63, 4])], "expected 1 to 256 rows"),
        ([packed([GOOD], shape=[-1, 4])], "expected 1 to 256 rows"),
        ([packed([GOOD], shape=[2, 4])], "expected 8 cells as its shape says; found 4"),
        ([packed([GOOD], data=[GOOD, GOOD])], "expected 4 cells as its shape says; found 8"),
        ([packed([GOOD], data=[GOOD[:3]])], "expected 4 cells a row; found 3 in row 0"),
        ([packed([GOOD], data=[*GOOD[:3], [1]])], "features: Expected `float"),
        ([packed([GOOD], "UINT8")], "features: Expected `int"),
        ([packed([GOOD], data=[*GOOD[:3], "1"])], "features: Expected `float"),
        ([packed([GOOD], "BYTES")], "features: expected datatype BOOL.*found 'BYTES'"),
        ([packed([GOOD], "FP64")], "wind: expected FP32; found FP64"),
        (
            [packed([[None, None, 1, 1]])],
            "hour: expected INT64; found a missing value in row 0",
        ),
        ([packed([[0, 1.5, 1, 1]])], "hour: expected INT64; found 1.5 in row 0"),
        ([packed([GOOD, [0, 1e19, 1, 1]])], r"hour: expected INT64; found 1e\+19 in row 1"),
        ([packed([[0, 1, 2, 1]])], "wet: expected BOOL; found 2.0 in row 0"),
        (
            [packed([[0, 1, 1, 1e39]])],
            "features: expected numbers that fit FP32; found a larger",
        ),
        ([packed([[1, 1, 1, 1]], "INT64")], "distance: expected FP64; found INT64"),
        ([packed([GOOD], "FP16")], "features: expected datatype.*as JSON has; found 'FP16'"),
        (
            [packed([[True] * 4], "BOOL")],
            "distance: expected FP64; found BOOL in 'features'",
        ),
        (
            [packed([GOOD]), *one_a_feature([GOOD])[:1]],
            "features: expected either all features in it or one .* found distance as well",
        ),
        ([packed([GOOD]), {**KEY, "shape": [2]}], r"entity_key: expected shape \[1\]"),
        ([packed([GOOD]), packed([GOOD])], "features: expected an input once"),
    ],
)
def test_what_is_no_packing_of_the_features_is_refused(tensors, said):
    with pytest.raises(BadRequestError, match=said):
        features(tensors)


def test_texts_cannot_be_packed():
    inputs = (*NUMERIC[:1], Input(name="carrier", datatype=Datatype.BYTES))
    with pytest.raises(BadRequestError, match="carrier: expected BYTES; found FP64"):
        features([packed([[1.0, 2.0]], "FP64")], inputs)


def test_features_whose_order_depends_on_the_version_cannot_be_packed():
    with pytest.raises(BadRequestError, match="or a version in the path; found them packed"):
        features([packed([GOOD])], order=None)


def test_an_input_that_bears_the_name_is_an_input():
    inputs = (Input(name="features", datatype=Datatype.FP64),)
    with pytest.raises(BadRequestError, match=r"expected shape \[1\] or \[1, 1\]"):
        features([packed([[1.0, 2.0]], "FP64")], inputs)


async def test_a_packed_request_is_answered_and_logged_as_any_other():
    rows = [[row[name] for name in ORDER] for row in ROWS]
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        async with open_door(Path(folder), Path(folder, "r.sock"), NUMERIC) as door:
            for tensors in (one_a_feature(rows), [packed(numbers(rows))]):
                body = json.dumps({"inputs": tensors}).encode()
                answer = await door.ask(f"/v2/models/{MODEL}/infer", body)
                assert answer.status_code == 200, answer.text
            one, other = [json.loads(entry.payload) for entry in await door.remembered()]
    assert one["features"] == other["features"]
    assert one["features"] == {name: [row[name] for row in ROWS] for name in ORDER}
