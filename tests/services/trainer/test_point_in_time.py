"""The law of the join: what was known later, and what lies later, changes no training."""

import uuid
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from gyral.trainer.domain.splits import micros, split
from gyral.trainer.engine.order import Order, Table
from gyral.trainer.engine.rows import read_rows

from .conftest import AS_OF, ENDS, RIDES, START, model_body

HOURS = 24 * 10
"""Until `LATER`, the cut-off of these orders."""
LATER = START + timedelta(hours=HOURS)
KEYS = st.sampled_from("abcdef")
RIDE = st.tuples(KEYS, st.integers(0, HOURS + 72))
END = st.tuples(KEYS, st.integers(0, HOURS + 96), st.sampled_from([None, 1, 12]))


def at(hours):
    return [START + timedelta(hours=hour) for hour in hours]


def table_of(folder, name, spec, columns):
    uri = str(folder / f"{name}-{uuid.uuid4().hex}")
    write_deltalake(uri, pa.table(columns))
    return Table(stream=name, version=0, uri=uri, spec=spec)


def order_of(folder, rides, ends):
    time = pa.timestamp("us", tz="UTC")
    count = len(rides)
    features = {
        "ride_id": pa.array([key for key, _ in rides], pa.string()),
        "at": pa.array(at(hour for _, hour in rides), time),
        "zone": pa.array(["north"] * count, pa.string()),
        "distance": pa.array([float(hour) for _, hour in rides], pa.float64()),
        "seats": pa.array([1] * count, pa.int64()),
        "pooled": pa.array([True] * count, pa.bool_()),
    }
    labels = {
        "ride_id": pa.array([key for key, _, _ in ends], pa.string()),
        "known_at": pa.array(at(hour for _, hour, _ in ends), time),
        "minutes_late": pa.array([late for _, _, late in ends], pa.int64()),
    }
    return Order(
        run_id=str(uuid.uuid4()),
        model="late-rides",
        spec=model_body(holdout="3d"),
        as_of=LATER,
        features=table_of(folder, "rides", RIDES, features),
        labels=table_of(folder, "ends", ENDS, labels),
        champion=None,
        output=folder,
    )


def joined(folder, rides, ends):
    """Return (time, distance, truth or nothing) of the training's rows and of the window's."""
    order = order_of(folder, rides, ends)
    parts = read_rows(order, split(order.spec, order.as_of), ["distance"])
    return [
        sorted(
            (time, distance, str(positive) if labelled else "")
            for time, distance, labelled, positive in zip(
                rows.times.tolist(),
                rows.columns["distance"].tolist(),
                rows.labelled.tolist(),
                rows.positive.tolist(),
                strict=True,
            )
        )
        for rows in parts
    ]


@settings(max_examples=30, deadline=None)
@given(st.lists(RIDE, max_size=15), st.lists(END, max_size=15))
def test_what_comes_after_the_cut_off_changes_neither_training_nor_window(rides, ends):
    ranges = split(model_body(holdout="3d"), LATER)
    start_us = micros(START)

    def us(hour):
        return start_us + hour * 3_600_000_000

    past = [ride for ride in rides if us(ride[1]) < ranges.window_end]
    known = [end for end in ends if us(end[1]) <= ranges.as_of]
    with TemporaryDirectory() as name:
        assert joined(Path(name), rides, ends) == joined(Path(name), past, known)


@settings(max_examples=30, deadline=None)
@given(st.lists(RIDE, max_size=15), st.lists(END, max_size=15))
def test_each_row_has_the_newest_label_known_in_time_and_no_later_one(rides, ends):
    ranges = split(model_body(holdout="3d"), LATER)
    start_us = micros(START)

    def truth(ride, known_by):
        key, hour = ride
        begun = start_us + hour * 3_600_000_000
        usable = [
            (known_at, late > 5)
            for other, known_hour, late in ends
            if other == key and late is not None
            if (known_at := start_us + known_hour * 3_600_000_000)
            <= min(begun + ranges.horizon, known_by)
        ]
        return begun, float(hour), str(max(usable)[1]) if usable else ""

    wanted_training = sorted(
        found
        for ride in rides
        if (found := truth(ride, ranges.trained_until))[0] < ranges.trained_until and found[2]
    )
    with TemporaryDirectory() as name:
        training, window = joined(Path(name), rides, ends)
    assert training == wanted_training
    in_window = [truth(ride, ranges.as_of) for ride in rides]
    assert window == sorted(
        found for found in in_window if ranges.window_start <= found[0] < ranges.window_end
    )


def test_the_cut_off_of_these_laws_lies_among_their_rows():
    ranges = split(model_body(holdout="3d"), LATER)
    hours = (
        np.array([ranges.trained_until, ranges.window_end]) - micros(START)
    ) // 3_600_000_000
    assert 0 < hours[0] < hours[1] < HOURS
    assert AS_OF > LATER
