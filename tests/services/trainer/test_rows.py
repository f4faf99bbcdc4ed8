"""The point-in-time join, against a search that looks at every label."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from gyral.trainer.domain.splits import micros, split
from gyral.trainer.engine.order import Table, TrainingRefusedError
from gyral.trainer.engine.rows import Known, latest_known, read_rows

from .conftest import AS_OF, ENDS, RIDES

LABELS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 30), st.booleans()), max_size=40)
ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 30)), max_size=30)


@given(LABELS, ROWS)
def test_the_join_finds_the_newest_label_known_in_time_and_no_later_one(labels, rows):
    ordered = sorted(labels)
    known = Known(
        codes=np.array([code for code, _, _ in ordered], np.int64),
        times=np.array([at for _, at, _ in ordered], np.int64),
        positive=np.array([positive for _, _, positive in ordered], np.bool_),
    )
    codes = np.array([code for code, _ in rows], np.int64)
    limits = np.array([limit for _, limit in rows], np.int64)
    labelled, positive = latest_known(codes, limits, known)
    for place, (code, limit) in enumerate(rows):
        usable = [(at, truth) for other, at, truth in labels if other == code and at <= limit]
        assert bool(labelled[place]) == bool(usable)
        if usable:
            assert bool(positive[place]) == max(usable)[1]


def test_rows_learn_from_labels_known_by_the_cut_off_and_are_judged_by_those_known_since(order):
    wanted = order()
    ranges = split(wanted.spec, wanted.as_of)
    training, window = read_rows(wanted, ranges, ["zone"])
    rides = DeltaTable(wanted.features.uri).to_pyarrow_table().to_pylist()
    ends = {
        row["ride_id"]: row
        for row in DeltaTable(wanted.labels.uri).to_pyarrow_table().to_pylist()
    }
    learned = [
        ends[ride["ride_id"]]["minutes_late"] > 5
        for ride in rides
        if micros(ride["at"]) < ranges.trained_until
        and ride["ride_id"] in ends
        and micros(ends[ride["ride_id"]]["known_at"]) <= ranges.trained_until
    ]
    judged = [
        ride for ride in rides if ranges.window_start <= micros(ride["at"]) < ranges.window_end
    ]
    assert len(training) == len(learned)
    assert int(training.positive.sum()) == sum(learned)
    assert len(window) == len(judged)
    assert (np.diff(training.times) >= 0).all()


def test_a_later_version_of_the_table_changes_nothing_before_as_of(
    order, tables, tmp_path: Path
):
    rides = DeltaTable(tables[0].uri).to_pyarrow_table()
    half = len(rides) // 2
    write_deltalake(tmp_path / "rides", rides.slice(half))
    write_deltalake(tmp_path / "rides", rides.slice(0, half), mode="append")
    other = Table(stream="rides", version=1, uri=str(tmp_path / "rides"), spec=RIDES)
    as_of = AS_OF - timedelta(days=20)
    first, second = order(as_of=as_of), order(as_of=as_of, tables=(other, tables[1]))
    ranges = split(first.spec, as_of)
    for one, two in zip(
        read_rows(first, ranges, ["distance"]),
        read_rows(second, ranges, ["distance"]),
        strict=True,
    ):
        np.testing.assert_array_equal(one.times, two.times)
        np.testing.assert_array_equal(one.columns["distance"], two.columns["distance"])
        np.testing.assert_array_equal(one.positive, two.positive)


def test_a_label_without_a_value_and_a_label_after_the_horizon_are_none(order, tmp_path: Path):
    at = AS_OF - timedelta(days=5)
    rides = pa.table(
        {
            "ride_id": ["null", "late", "good"],
            "at": pa.array([at] * 3, pa.timestamp("us", tz="UTC")),
            "zone": ["north"] * 3,
            "distance": [1.0] * 3,
            "seats": [1] * 3,
            "pooled": [True] * 3,
        }
    )
    hours = [1, 25, 24]
    ends = pa.table(
        {
            "ride_id": ["null", "late", "good"],
            "known_at": pa.array(
                [at + timedelta(hours=hour) for hour in hours], pa.timestamp("us", tz="UTC")
            ),
            "minutes_late": [None, 9, 9],
        }
    )
    tables = []
    for name, table, spec in (("rides", rides, RIDES), ("ends", ends, ENDS)):
        write_deltalake(tmp_path / name, table)
        tables.append(Table(stream=name, version=0, uri=str(tmp_path / name), spec=spec))
    wanted = order(tables=tuple(tables))
    _, window = read_rows(wanted, split(wanted.spec, wanted.as_of), [])
    assert window.labelled.sum() == window.positive.sum() == 1


def test_a_table_without_a_declared_column_is_refused(order, tables, tmp_path: Path):
    narrow = DeltaTable(tables[0].uri).to_pyarrow_table().drop_columns(["seats"])
    write_deltalake(tmp_path / "rides", narrow)
    table = Table(stream="rides", version=0, uri=str(tmp_path / "rides"), spec=RIDES)
    wanted = order(tables=(table, tables[1]))
    with pytest.raises(TrainingRefusedError, match=r"stream rides at version 0.*no seats"):
        read_rows(wanted, split(wanted.spec, wanted.as_of), ["seats"])
