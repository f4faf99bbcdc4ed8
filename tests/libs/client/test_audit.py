import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from gyral.client.audit import chain, lake
from gyral.client.audit.findings import Finding
from gyral.client.audit.log import Reach
from gyral.client.lake import Lake
from gyral.client.replay.journal import Journal, SentPrediction, read
from gyral.modelling.contents import Content
from gyral.validation.engine.upkeep import drop_older
from gyral.validation.engine.vacuum import sweep

TOPIC = "data.record.submitted.v1"
KINDS = ("quarantine", "duplicate", "marker")
DAY_US = 86_400_000_000
ORDERS = {"orders": lake.Keyed("id", "at", 7 * DAY_US)}


@pytest.fixture
def shelf(tmp_path):
    """A lake in a folder, and what appends rows to it."""

    def append(name, **columns):
        write_deltalake(f"{tmp_path}/{name}", pa.table(columns), mode="append")

    return Lake(str(tmp_path), {}), append


def sent(keys=(), answers=()):
    return lake.Sender({"orders": set(keys)}, {"m": dict(answers)})


def on(*days):
    times = [datetime(2026, 1, day, tzinfo=UTC) for day in days]
    return pa.array(times, pa.timestamp("us", "UTC"))


def test_rows_that_are_in_the_lake_or_in_quarantine_are_kept(shelf):
    table, append = shelf
    append("orders", id=["a", "b"], at=on(1, 1))
    assert list(lake.records(table, ORDERS, {"orders": {"c"}}, sent("abc"))) == []


def test_a_row_that_is_nowhere_or_twice_is_found(shelf):
    table, append = shelf
    append("orders", id=["a", "a"], at=on(1, 8))
    assert list(lake.records(table, ORDERS, {}, sent("ab"))) == [
        "orders: 'a' is 2 times in the lake",
        "orders: 'b' was accepted and is nowhere",
    ]


def test_a_key_that_recurs_beyond_dedupe_stands_for_a_new_row(shelf):
    table, append = shelf
    append("orders", id=["a", "b", "a", "a"], at=on(17, 1, 9, 1))
    assert list(lake.records(table, ORDERS, {}, None)) == []


def test_a_row_that_is_twice_is_found_though_its_key_also_recurs_later(shelf):
    table, append = shelf
    append("orders", id=["a", "a", "a"], at=on(1, 20, 1))
    assert list(lake.records(table, ORDERS, {}, None)) == ["orders: 'a' is 2 times in the lake"]


def test_rows_that_were_erased_are_missed_by_their_number_alone(shelf):
    table, append = shelf
    append("orders", id=["a", "a"], at=on(1, 20))

    def found(**what):
        declared = {"orders": replace(ORDERS["orders"], **what)}
        lines = lake.records(table, declared, {}, sent("abc"))
        return [line for line in lines if "nowhere" in line]

    assert len(found(erased=1)) == 2
    assert found(erased=2) == []
    assert found(personal=True) == []


def test_rows_of_a_table_that_does_not_exist_are_lost(shelf):
    table, _ = shelf
    assert len(list(lake.records(table, ORDERS, {}, sent("ab")))) == 2


def predictions(append, *rows):
    ids, numbers, roles, versions = zip(*rows, strict=True)
    append(
        "predictions-m",
        request_id=list(ids),
        row=list(numbers),
        role=list(roles),
        version=list(versions),
    )


def test_an_answer_is_logged_once_whatever_its_shadows_do(shelf):
    table, append = shelf
    predictions(append, ("r", 0, "live", 1), ("r", 1, "live", 1), ("r", 0, "shadow", 2))
    assert list(lake.predictions(table, ["m"], sent(answers=[("r", (1, 2))]))) == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("r", 0, "live", 1), ("r", 0, "live", 1)], (1, 1)),
        ([("r", 0, "live", 2)], (1, 1)),
        ([("r", 0, "live", 1)], (1, 2)),
        ([("q", 0, "live", 1)], (1, 1)),
        ([("r", 0, "shadow", 1)], (1, 1)),
    ],
    ids=["twice", "another version", "a row short", "not at all", "as a shadow only"],
)
def test_an_answer_that_is_not_logged_once_is_found(shelf, rows, said):
    table, append = shelf
    predictions(append, *rows)
    assert list(lake.predictions(table, ["m"], sent(answers=[("r", said)])))


def places(append, *offsets):
    append(
        "orders",
        _topic=[TOPIC] * len(offsets),
        _partition=pa.array([0] * len(offsets), pa.int32()),
        _offset=pa.array(offsets, pa.int64()),
    )


def offsets(table, aside, end):
    reach = {(TOPIC, 0): Reach(0, end)}
    kinds = {kind: aside.get(kind, {}) for kind in KINDS}
    return list(lake.offsets(table, ["orders", "absent"], kinds, reach))


def at(*offsets, row=0):
    return {(TOPIC, 0): np.array(offsets, dtype=np.int64) * lake.ROWS + row}


def test_every_offset_has_one_place(shelf):
    table, append = shelf
    places(append, 0, 1, 1, 4)  # one record of many rows has one place
    assert offsets(table, {"marker": at(2), "duplicate": at(3)}, 5) == []


def test_an_offset_without_a_place_or_with_two_is_found(shelf):
    table, append = shelf
    places(append, 0, 1)
    assert offsets(table, {"quarantine": at(1)}, 3) == [
        f"{TOPIC}/0/1, row 0: it has two places",
        f"{TOPIC}/0/2: it is in no table, quarantine, duplicate or marker",
    ]


def test_rows_of_one_record_have_each_a_place_of_their_own(shelf):
    table, append = shelf
    append(
        "orders",
        _topic=[TOPIC] * 3,
        _partition=pa.array([0] * 3, pa.int32()),
        _offset=pa.array([0, 0, 0], pa.int64()),
        _row=pa.array([0, 2, 2], pa.int32()),
    )
    assert offsets(table, {"quarantine": at(0, row=1)}, 1) == [
        f"{TOPIC}/0/0, row 2: it has two places"
    ]
    assert offsets(table, {"duplicate": at(0, row=0)}, 1)[:1] == [
        f"{TOPIC}/0/0, row 0: it has two places"
    ]


def entries(count):
    previous, made = chain.GENESIS, []
    for seq in range(1, count + 1):
        time = datetime(2013, 1, seq, tzinfo=UTC)
        change = json.dumps({"n": seq, "b": None})
        entry = chain.Entry(seq, time, "me", "did", "it", "why", change, previous, "")
        made.append(replace(entry, hash=entry.computed(previous)))
        previous = made[-1].hash
    return made


def test_a_chain_that_was_not_touched_verifies():
    assert list(chain.breaks(entries(4))) == []


@pytest.mark.parametrize("field", ["actor", "reason", "change", "hash"])
def test_a_changed_entry_is_found(field):
    made = entries(4)
    made[1] = replace(made[1], **{field: '"x"'})
    assert next(chain.breaks(made)).startswith("entry 2: it does not follow")


def test_a_missing_entry_is_found():
    made = entries(4)
    del made[1]
    assert list(chain.breaks(made)) == ["entry 3: expected entry 2"]


def test_a_journal_is_read_up_to_where_a_kill_cut_it(tmp_path):
    path = tmp_path / "sent.jsonl"
    with Journal(path) as journal:
        journal.records("orders", "x-1", "x-2", ["a", "b"])
        journal.prediction(SentPrediction("m", 3, "r", ["a"], [0.5]))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    sender = lake.sender_of(read(path))
    assert sender.keys == {"orders": {"a", "b"}}
    assert sender.answers == {"m": {"r": (3, 1)}}


def test_findings_are_counted_and_few_are_shown():
    found = Finding.of("x", (str(at) for at in range(9)))
    assert (found.violations, found.examples) == (9, ("0", "1", "2", "3", "4"))


def a_pin(table, version, **changed):
    found = Content.of_rows(table.table("orders", version).to_pyarrow_table().to_pylist())
    return lake.Pin("orders", version, found.rows, changed.get("content", found.digest))


def test_a_version_that_holds_what_was_announced_is_left_alone(shelf):
    table, append = shelf
    append("orders", id=["a", "b"])
    append("orders", id=["c"])
    assert list(lake.pinned(table, [a_pin(table, 0), a_pin(table, 1)])) == []


def test_a_version_that_holds_something_else_is_found(shelf):
    table, append = shelf
    append("orders", id=["a", "b"])
    pins = [a_pin(table, 0, content="0" * 32), lake.Pin("absent", 3, 1, "0" * 32)]
    first, second = lake.pinned(table, pins)
    assert first.startswith("orders at version 0: announced 2 rows of content 000")
    assert "found 0 of 000" in second


async def test_rows_that_retention_dropped_keep_their_places(shelf):
    table, append = shelf
    times = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2)]
    append(
        "orders",
        id=["a", "b"],
        at=pa.array(times, pa.timestamp("us", "UTC")),
        _topic=[TOPIC] * 2,
        _partition=pa.array([0, 0], pa.int32()),
        _offset=pa.array([0, 1], pa.int64()),
    )
    edge_us = int(times[1].timestamp()) * 1_000_000
    assert drop_older(table.table("orders"), "at", edge_us, lambda _: {}) == 1
    assert table.table("orders").to_pyarrow_table().num_rows == 1
    assert len(offsets(table, {}, 2)) == 1
    table = replace(table, retired=frozenset({"orders"}))
    assert offsets(table, {}, 2) == []
    assert list(lake.records(table, ORDERS, {}, sent("ab"))) == []
    # A vacuum took them: no place is needed for what Kafka does not have any more either.
    swept = sweep(
        f"{table.root}/orders",
        table.options,
        pinned=[],
        before=datetime.now(UTC) + timedelta(hours=2),
    )
    assert swept.files == 1
    assert len(offsets(table, {}, 2)) == 1
