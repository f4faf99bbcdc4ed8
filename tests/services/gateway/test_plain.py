import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.gateway.api.plain import read_fields

from .asking import expected, features, one_a_feature, read
from .conftest import INPUTS, ROWS
from .door import MODEL, open_door

PREDICT = f"/v1/models/{MODEL}:predict"


@pytest.fixture
async def door():
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        async with open_door(Path(folder), Path(folder, "r.sock")) as door:
            yield door


doubles = st.floats(allow_nan=False, allow_infinity=False)
longs = st.integers(-(2**63), 2**63 - 1)
single = st.floats(allow_nan=False, allow_infinity=False, width=32)
cells = st.tuples(
    st.none() | doubles, longs, st.none() | st.text(max_size=5), st.booleans(), single
)


@given(st.lists(cells, min_size=1))
def test_named_fields_are_read_and_logged_as_tensors_are(rows):
    names = [each.name for each in INPUTS]
    instances = [dict(zip(names, row, strict=True)) for row in rows]
    columns = {name: [row[name] for row in instances] for name in names}
    as_tensors = features(one_a_feature(rows, INPUTS), INPUTS)
    for form in ({"instances": instances}, {"columns": columns}):
        asked = read_fields(json.dumps(form).encode(), None, expected(INPUTS))
        assert read(asked, INPUTS) == as_tensors


async def test_rows_and_columns_are_answered_with_ids_that_labels_can_join(door):
    known = [
        {**row, "entity_key": f"k{place}", "event_time": "1970-01-01T01:00:00.000002+01:00"}
        for place, row in enumerate(ROWS)
    ]
    columns = {name: [row[name] for row in known] for name in known[0]}
    for body in ({"instances": known}, {"columns": columns}):
        answer = await door.ask(PREDICT, json.dumps(body).encode())
        assert answer.status_code == 200, answer.text
        request_id = answer.headers["x-gyral-request-id"]
        assert answer.json() == {
            "predictions": [0.0] * 3,
            "prediction_ids": [f"{request_id}-{row}" for row in range(3)],
            "model_version": "1",
        }
    entries = [json.loads(entry.payload) for entry in await door.remembered()]
    assert [entry["entity_keys"] for entry in entries] == [["k0", "k1", "k2"]] * 2
    assert [entry["event_times"] for entry in entries] == [[2, 2, 2]] * 2


async def test_a_version_may_be_named_and_must_be_there(door):
    body = json.dumps({"instances": ROWS}).encode()
    named = await door.ask(f"/v1/models/{MODEL}/versions/1:predict", body)
    assert (named.status_code, named.json()["model_version"]) == (200, "1")
    for path in (f"/v1/models/{MODEL}/versions/9:predict", "/v1/models/nobody:predict"):
        assert (await door.ask(path, body)).status_code == 404
    for path in ("/v1/models/:predict", f"/v1/models/{MODEL}/x:predict"):
        assert (await door.ask(path, body)).status_code == 404
    assert (await door.client.get(PREDICT)).status_code == 401
    assert (await door.ask(PREDICT, body, key="sender")).status_code == 403


ROW = {**ROWS[0]}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "expected either instances or columns; found neither"),
        (
            {"instances": [ROW], "columns": {}},
            "expected either instances or columns; found both",
        ),
        ({"instances": []}, "instances: expected 1 to 256 rows; found 0"),
        ({"instances": [ROW] * 257}, "instances: expected 1 to 256 rows; found 257"),
        ({"columns": {}}, "columns: expected 1 to 256 rows; found 0"),
        ({"columns": {name: [] for name in ROW}}, "columns: expected 1 to 256 rows; found 0"),
        ({"columns": ROW}, "distance: Expected `array`"),
        ({"columns": {**{n: [c] for n, c in ROW.items()}, "hour": [1, 2]}}, "hour: expected 1"),
        ({"instances": [[1, 2]]}, "Expected `object`"),
        ({"instances": [ROW], "signature_name": "x"}, "unknown field `signature_name`"),
        ({"instances": [{}]}, "expected one for each feature"),
        (
            {"instances": [ROW, {}]},
            r"instances.1: expected \w+, as in the first one; found none",
        ),
        ({"instances": [ROW, {**ROW, "x": 1}]}, "instances.1: expected no field, .* found x"),
        ({"instances": [{**ROW, "x": 1}]}, "x: expected one of carrier,.*found a field no"),
        ({"instances": [{**ROW, "features": 1}]}, "features: expected one of carrier"),
        ({"instances": [{**ROW, "hour": 1.5}]}, "hour: Expected `int`"),
        ({"instances": [{**ROW, "hour": None}]}, "hour: Expected `int`, got `null`"),
        ({"instances": [{**ROW, "wind": 1e39}]}, "wind: expected numbers that fit FP32"),
        ({"instances": [{**ROW, "entity_key": 7}]}, "entity_key: Expected `str"),
        ({"instances": [{**ROW, "event_time": 7}]}, "event_time: Expected `datetime"),
        (
            {"instances": [{**ROW, "event_time": "2013-01-01T00:00:00"}]},
            "event_time: .*timezone",
        ),
        (
            {"instances": [{**ROW, "event_time": "9999-12-31T23:59:59Z"}]},
            "event_time: .*at most",
        ),
        ({"instances": [{**ROW, "event_time": "0001-01-01T00:00:00+23:59"}]}, "event_time: "),
    ],
)
async def test_fields_that_cannot_be_answered_say_what_is_wrong(door, body, said):
    refused = await door.ask(PREDICT, json.dumps(body).encode())
    assert refused.status_code == 400, refused.text
    assert re.search(said, refused.json()["error"]), refused.text
    assert await door.remembered() == []


async def test_a_field_that_comes_twice_is_refused(door):
    body = json.dumps({"instances": [ROW]}).replace('"hour": 3', '"hour": 3, "hour": 4')
    refused = await door.ask(PREDICT, body.encode())
    assert "hour: expected a key once in its object" in refused.json()["error"]


async def test_fields_never_come_with_binary_behind_them(door):
    headers = {"authorization": "Bearer asker", "inference-header-content-length": "9"}
    body = json.dumps({"instances": [ROW]}).encode()
    refused = await door.client.post(PREDICT, content=body, headers=headers)
    assert refused.status_code == 400
