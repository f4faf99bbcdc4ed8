"""Files of older versions lose a subject's rows and nothing else, whoever reads them."""

import uuid
from datetime import UTC, datetime, timedelta

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from gyral.validation.domain.erasing import Order
from gyral.validation.engine.erasing import Files, Owned, written_within
from gyral.validation.engine.reading import held
from gyral.validation.engine.upkeep import drop

AT = datetime(2026, 1, 1, tzinfo=UTC)
HERS = "h" * 32


def rows(offsets, *, whose=lambda offset: HERS if offset % 3 == 0 else "o" * 32):
    return pa.table(
        {
            "trip": [f"t{offset}" for offset in offsets],
            "at": pa.array([AT + timedelta(minutes=each) for each in offsets]).cast(
                pa.timestamp("us", "UTC")
            ),
            "who": [whose(offset) for offset in offsets],
            "fare": pa.array(
                [None if each % 2 else each / 7 for each in offsets], pa.float64()
            ),
            "_topic": ["t"] * len(offsets),
            "_partition": pa.array([offset % 2 for offset in offsets], pa.int32()),
            "_offset": pa.array(offsets, pa.int64()),
            "_row": pa.array([0] * len(offsets), pa.int32()),
        }
    )


@pytest.fixture
def table(tmp_path):
    """A table of four versions: three appends and a merge of them."""
    uri = str(tmp_path / "trips")
    for start in (0, 10, 20):
        write_deltalake(uri, rows(range(start, start + 10)), mode="append")
    DeltaTable(uri).optimize.compact()
    return uri


def owned(end=100):
    return Owned("who", HERS, {0: end, 1: end})


def erase(uri, which):
    newest = DeltaTable(uri)
    going = held(newest, among=which.among)
    found = drop(newest, going, which.sql, lambda _: {"why": "asked"})
    files = Files(uri, {})
    traces = files.traces(DeltaTable(uri), which)
    for path in traces.files:
        files.scrub(path, which)
    return found, traces


def test_every_version_keeps_all_rows_but_hers(table):
    before = {n: DeltaTable(table, version=n).to_pyarrow_table() for n in range(4)}
    version, traces = erase(table, owned())
    assert version == 4
    assert traces.places == {(each % 2, each, 0) for each in range(0, 30, 3)}
    lives = sorted(life for life in traces.files.values() if life)
    assert lives == [(0, 3), (1, 3), (2, 3), (3, 4)]
    for number, old in {**before, 4: before[3]}.items():
        left = old.filter(ds.field("who") != HERS).sort_by("trip")
        now = DeltaTable(table, version=number)
        assert now.to_pyarrow_table().sort_by("trip").to_pylist() == left.to_pylist()
        assert now.to_pyarrow_dataset().to_table(filter=ds.field("who") == HERS).num_rows == 0
        assert now.to_pyarrow_table().schema.equals(old.schema)
        assert pl.read_delta(table, version=number).height == len(left)
        dataset = now.to_pyarrow_dataset()  # noqa: F841 - duckdb finds it by its name
        found = duckdb.execute("SELECT count(trip) FROM dataset").fetchall()
        assert found == [(len(left),)]


def test_done_again_nothing_is_left_to_do(table):
    erase(table, owned())
    version, traces = erase(table, owned())
    assert version is None
    assert (traces.places, dict(traces.files)) == (frozenset(), {})


def test_several_are_erased_one_after_the_other(tmp_path):
    people = [letter * 32 for letter in "abcde"]
    uri = str(tmp_path / "trips")
    for start in (0, 20):
        whose = {at: people[at % 5] for at in range(start, start + 20)}
        write_deltalake(uri, rows(range(start, start + 20), whose=whose.get), mode="append")
    DeltaTable(uri).optimize.compact()
    for gone, who in enumerate(people, start=1):
        _, traces = erase(uri, Owned("who", who, {0: 99, 1: 99}))
        assert len(traces.places) == 8
        for version in range(DeltaTable(uri).version() + 1):
            left = DeltaTable(uri, version=version).to_pyarrow_table()
            assert not set(left["who"].to_pylist()) & set(people[:gone])
    assert DeltaTable(uri).to_pyarrow_table().num_rows == 0
    assert DeltaTable(uri, version=2).to_pyarrow_table().num_rows == 0


def test_what_a_dead_writer_left_is_looked_at_too(table, tmp_path):
    orphan = tmp_path / "trips" / "part-orphan.parquet"
    pq.write_table(rows([3, 4]), orphan)
    _, traces = erase(table, owned())
    assert traces.files["part-orphan.parquet"] is None
    assert pq.read_table(orphan)["trip"].to_pylist() == ["t4"]


def test_rows_behind_the_ends_stay(table):
    erase(table, owned(end=12))
    kept = DeltaTable(table).to_pyarrow_table().filter(ds.field("who") == HERS)
    assert sorted(kept["_offset"].to_pylist()) == [12, 15, 18, 21, 24, 27]
    assert erase(table, Owned("who", HERS, {}))[0] is None


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(0, 3))
def test_a_file_without_some_rows_fits_where_it_was(tmp_path_factory, count, others):
    uri = str(tmp_path_factory.mktemp("fits"))
    whose = [HERS if at % 4 <= others else "o" * 32 for at in range(count)]
    write_deltalake(uri, rows(range(count), whose=whose.__getitem__))
    [path] = pa.table(DeltaTable(uri).get_add_actions())["path"].to_pylist()
    Files(uri, {}).scrub(path, owned(end=1000))
    left = DeltaTable(uri).to_pyarrow_table()
    assert left.num_rows == sum(each != HERS for each in whose)


def test_what_does_not_fit_is_not_written():
    assert written_within(rows([1]), 100) is None


def test_an_order_is_due_once_all_it_is_about_was_judged():
    order = Order(uuid.uuid4(), "s", HERS, "ann", "asked", {0: 5, 1: 0, 2: 7})
    assert order.is_due({0: 5, 2: 9})
    assert not order.is_due({0: 4, 2: 9})
    assert not order.is_due({0: 5})
