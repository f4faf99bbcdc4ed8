"""What the door lets through, and how it words a refusal."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.ingestion.domain import Door, RefusedRowError, shown, time_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DOOR = Door("id", "at", NOW + timedelta(minutes=5))


def test_a_row_with_key_and_time_passes_whatever_else_it_holds():
    assert DOOR.key_of({"id": "a", "at": "2013-01-01T00:00:00Z", "x": [1, {"y": None}]}) == "a"


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ([], "row"),
        ("text", "row"),
        ({"at": "2013-01-01T00:00:00Z"}, "id"),
        ({"id": True, "at": "2013-01-01T00:00:00Z"}, "id"),
        ({"id": 7, "at": "2013-01-01T00:00:00Z"}, "id"),
        ({"id": "a\0b", "at": "2013-01-01T00:00:00Z"}, "id"),
        ({"id": "", "at": "2013-01-01T00:00:00Z"}, "id"),
        ({"id": "x" * 257, "at": "2013-01-01T00:00:00Z"}, "id"),
        ({"id": "a"}, "at"),
        ({"id": "a", "at": 5}, "at"),
        ({"id": "a", "at": "yesterday"}, "at"),
        ({"id": "a", "at": "2013-01-01T00:00:00"}, "at"),
        ({"id": "a", "at": "2026-01-01T00:05:01Z"}, "at"),
        ({"id": "a", "at": "1969-12-31T23:59:59Z"}, "at"),
        ({"id": "a", "at": "0001-01-01T00:00:00+14:00"}, "at"),
        ({"id": "a", "at": "9999-12-31T23:59:59-14:00"}, "at"),
    ],
)
def test_a_refusal_names_field_expected_and_found(row, field):
    with pytest.raises(RefusedRowError) as refused:
        DOOR.key_of(row)
    assert refused.value.field == field
    assert str(refused.value).startswith(f"{field}: expected ")
    assert "; found " in str(refused.value)


def test_five_minutes_ahead_is_the_last_time_that_passes():
    assert time_of("at", "2026-01-01T00:05:00Z", latest=DOOR.latest) == DOOR.latest
    DOOR.check_time("2026-01-01T00:05:00Z")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values | st.fixed_dictionaries({"id": json_values, "at": json_values}))
def test_any_value_is_either_a_key_or_a_refusal(value):
    try:
        key = DOOR.key_of(value)
    except RefusedRowError:
        return
    assert 0 < len(key) <= 256


@given(st.text(st.characters(exclude_categories=())))
def test_shown_is_ascii_and_short(text):
    assert shown(text).isascii()
    assert len(shown(text)) <= 90
