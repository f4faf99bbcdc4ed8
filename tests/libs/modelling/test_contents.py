"""What rows hold adds up, whatever their order and parts, by a definition of three lines."""

from datetime import UTC, datetime

import msgspec
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from gyral.modelling.contents import EMPTY, Content

CELLS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.datetimes(timezones=st.just(UTC))
)
ROWS = st.lists(st.dictionaries(st.sampled_from("abcd"), CELLS), max_size=8)


def by_definition(rows):
    """As the decision record gives it to anybody."""
    total = 0
    for row in rows:
        cells = {name: row[name] for name in sorted(row) if row[name] is not None}
        total += xxhash.xxh3_128_intdigest(msgspec.msgpack.encode(cells))
    return f"{total % 2**128:032x}"


@given(ROWS)
def test_a_digest_is_what_its_definition_says(rows):
    assert Content.of_rows(rows).digest == by_definition(rows)


@given(ROWS, st.integers(0, 8), st.randoms())
def test_order_and_parts_change_nothing(rows, cut, random):
    whole = Content.of_rows(rows)
    random.shuffle(rows)
    assert Content.of_rows(rows[:cut]) + Content.of_rows(rows[cut:]) == whole
    assert whole + -whole == EMPTY


def test_a_digest_made_once_stays_as_it_is():
    row = {"id": "f1", "at": datetime(2026, 1, 1, tzinfo=UTC), "delay": 5.0, "gate": None}
    placed = {**row, "_topic": "t", "_partition": 0, "_offset": 7, "_row": 0}
    assert Content.of_rows([placed]) == Content.of_rows([row])
    assert Content.of_rows([row]).digest == "6b5dd60b2a0a4fd2c38d8681e0d4c29d"


def test_a_row_twice_and_a_changed_cell_are_told():
    row = {"id": "f1", "n": 1}
    found = [Content.of_rows(rows).digest for rows in ([row], [row, row], [{**row, "n": 2}])]
    assert len(set(found)) == 3


def test_what_was_written_down_is_read_again():
    content = Content.of_rows([{"id": "f1"}])
    assert Content.told(content.rows, content.digest) == content
