"""Rows decoded in bulk and one by one, and the fence around the lake."""

import json

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.kit.blobs import table_options
from gyral.validation.domain.refusals import Reason
from gyral.validation.engine.lake import Lake, LakeMovedError, Span
from gyral.validation.engine.schema import Schema, UnusableSchemaError, digest, micros
from tests.services.validation.conftest import declared

FIELDS = {
    "flight_id": {"type": "string", "max_length": 8},
    "at": {"type": "timestamp"},
    "carrier": {"type": "string", "allowed": ["AA", "UA"], "nullable": True},
    "tail": {"type": "string", "pattern": "^N[0-9]+$", "nullable": True},
    "delay": {"type": "number", "minimum": -100, "maximum": 2000, "nullable": True},
    "seats": {"type": "integer", "minimum": 0.5, "nullable": True},
    "late": {"type": "boolean", "nullable": True},
}
GOOD = {"flight_id": "f1", "at": "2026-01-01T00:00:00Z"}
SCHEMA = Schema(declared("departures", fields=FIELDS))


def raw(values):
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return msgspec.Raw(text)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"at": GOOD["at"]}, Reason.REQUIRED),
        ({**GOOD, "flight_id": None}, Reason.REQUIRED),
        ({**GOOD, "flight_id": 7}, Reason.TYPE),
        ({**GOOD, "flight_id": "123456789"}, Reason.MAX_LENGTH),
        ({**GOOD, "flight_id": "a\0b"}, Reason.FORBIDDEN_CHARACTER),
        ({**GOOD, "at": "2026-01-01T00:00:00"}, Reason.TIMESTAMP),
        ({**GOOD, "at": "2026-02-30T00:00:00Z"}, Reason.TIMESTAMP),
        ({**GOOD, "at": 1767225600}, Reason.TYPE),
        ({**GOOD, "carrier": "ZZ"}, Reason.ALLOWED),
        ({**GOOD, "tail": "X1"}, Reason.PATTERN),
        ({**GOOD, "delay": "5"}, Reason.TYPE),
        ({**GOOD, "delay": True}, Reason.TYPE),
        ({**GOOD, "delay": 2000.5}, Reason.RANGE),
        ({**GOOD, "seats": 0}, Reason.RANGE),
        ({**GOOD, "seats": 1.5}, Reason.TYPE),
        ({**GOOD, "seats": 2**63}, Reason.TYPE),
        ({**GOOD, "late": 1}, Reason.TYPE),
        ({**GOOD, "carier": "AA"}, Reason.UNKNOWN_FIELD),
        ([GOOD], Reason.MALFORMED),
        (b'{"flight_id":"f1","at":"2026-01-01T00:00:00Z","delay":1e999}', Reason.TYPE),
        (b'{"flight_id":"f1","at":"2026-01-01T00:00:00Z","delay":NaN}', Reason.MALFORMED),
        (b'{"flight_id":"\xff","at":"2026-01-01T00:00:00Z"}', Reason.TYPE),
        (b"[" * 100_000, Reason.MALFORMED),
        (b"", Reason.MALFORMED),
    ],
)
def test_a_bad_row_is_refused_with_its_reason_and_its_neighbours_are_not(values, reason):
    decoded = SCHEMA.decode([raw(GOOD), raw(values), raw({**GOOD, "flight_id": "f2"})])
    assert [row is None for row in decoded.rows] == [False, True, False]
    assert list(decoded.violations) == [1]
    assert decoded.violations[1].reason is reason


cells = st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats() | st.text()
rows = st.dictionaries(st.sampled_from([*FIELDS, "other"]), cells) | st.builds(
    lambda carrier, delay, seats: {**GOOD, "carrier": carrier, "delay": delay, "seats": seats},
    st.sampled_from(["AA", "UA", None]),
    st.none() | st.floats(-100, 2000),
    st.none() | st.integers(1, 500),
)


@given(st.lists(rows, max_size=6))
def test_bulk_and_one_by_one_agree(several):
    raws = [raw(values) for values in several]
    together = SCHEMA.decode(raws)
    alone = [SCHEMA.decode([one]) for one in raws]
    assert together.rows == [one.rows[0] for one in alone]
    assert set(together.violations) == {at for at, one in enumerate(alone) if one.violations}
    good = [row for row in together.rows if row is not None]
    assert SCHEMA.table(good, [0] * len(good), list(range(len(good)))).num_rows == len(good)


def test_digest_ignores_layout_and_optional_fields_added_later():
    wider = Schema(
        declared(
            "departures", 2, fields={**FIELDS, "gate": {"type": "string", "nullable": True}}
        )
    )
    [one] = SCHEMA.decode([raw({**GOOD, "delay": 5})]).rows
    [two] = wider.decode(
        [raw(b'{"delay" : 5.0, "at":"2026-01-01T00:00:00Z","flight_id":"f1"}')]
    ).rows
    assert one is not None
    assert two is not None
    assert digest(one) == digest(two)


def test_times_are_exact_to_the_microsecond_in_any_offset():
    text = b'{"flight_id":"f","at":"2026-01-01T01:00:00.000001+01:00"}'
    [row] = SCHEMA.decode([raw(text)]).rows
    assert row is not None
    assert SCHEMA.event_time_us(row) == 1_767_225_600_000_001
    assert micros(row.at) == SCHEMA.event_time_us(row)  # type: ignore[attr-defined]


def test_a_pattern_that_is_no_regular_expression_makes_the_schema_unusable():
    broken = {**FIELDS, "tail": {"type": "string", "pattern": "["}}
    with pytest.raises(UnusableSchemaError):
        Schema(declared("departures", fields=broken))


def lake_rows(*offsets):
    return pa.table(
        {
            "n": pa.array(offsets, pa.int64()),
            "_topic": pa.array(["t"] * len(offsets), pa.string()),
            "_partition": pa.array([0] * len(offsets), pa.int32()),
            "_offset": pa.array(offsets, pa.int64()),
        }
    )


@pytest.fixture
def new_lake(stack, blobs):
    options = dict(table_options(stack.s3(blobs.bucket)))
    return lambda: Lake(f"s3://{blobs.bucket}/lake", options, compact_every=3)


@pytest.mark.live
async def test_a_zombie_cannot_append_what_its_successor_did(new_lake):
    zombie, owner = new_lake(), new_lake()
    await zombie.append("s", lake_rows(0), [Span("t", 0, 0, 0)])
    assert (await owner.survey("s", [Span("t", 0, 0, 9)])).landed == {(0, 0)}
    await owner.append("s", lake_rows(1, 2), [Span("t", 0, 1, 2)])
    with pytest.raises(LakeMovedError):
        await zombie.append("s", lake_rows(1, 2), [Span("t", 0, 1, 2)])
    survey = await zombie.survey("s", [Span("t", 0, 1, 2)])
    assert survey.landed == {(0, 1), (0, 2)}


@pytest.mark.live
async def test_writers_of_other_partitions_and_compaction_do_not_disturb(new_lake):
    one, two = new_lake(), new_lake()
    for offset in range(7):
        await one.append("s", lake_rows(offset), [Span("t", 0, offset, offset)])
        await two.append("s", lake_rows(offset), [Span("t", 1, offset, offset)])
    await one.drain()
    await two.drain()
    span = [Span("t", 0, 0, 9)]
    assert (await new_lake().survey("s", span)).landed == {(0, offset) for offset in range(7)}


@pytest.mark.live
async def test_a_column_that_changed_its_type_is_told(new_lake):
    lake = new_lake()
    await lake.append("s", lake_rows(0), [Span("t", 0, 0, 0)])
    wanted = pa.schema([("n", pa.string())])
    assert (await lake.survey("s", [], wanted)).misfit == (
        "n: expected int64 as in the table; found string"
    )
