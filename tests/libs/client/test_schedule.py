import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.client.errors import ClientError
from gyral.client.replay.schedule import NEVER, plan

BLOCK = 100


@st.composite
def streams(draw):
    """Rows in order of time, and when each label is known: never, or at or after its row."""
    gaps = draw(st.lists(st.integers(0, 60), min_size=1, max_size=120))
    times = np.cumsum(np.array(gaps, dtype=np.int64)) + draw(st.integers(0, 1000))
    lags = draw(
        st.lists(
            st.one_of(st.none(), st.integers(0, 500)),
            min_size=len(times),
            max_size=len(times),
        )
    )
    known = [NEVER if lag is None else int(t) + lag for t, lag in zip(times, lags, strict=True)]
    return times, np.array(known, dtype=np.int64)


def laid_out(stream, bootstrap_us=0):
    times, known = stream
    return plan(times, known, block_us=BLOCK, bootstrap_us=bootstrap_us)


def rows_of(part):
    return list(range(part.start, part.stop))


@given(streams())
def test_every_row_is_sent_once(stream):
    schedule = laid_out(stream)
    sent = rows_of(schedule.rows) + [row for day in schedule.days for row in rows_of(day.rows)]
    assert sent == list(range(len(stream[0])))


@given(streams())
def test_a_row_is_sent_on_its_own_day(stream):
    times, _ = stream
    for day in laid_out(stream).days:
        assert all(day.start_us <= times[row] < day.end_us for row in rows_of(day.rows))


@given(streams())
def test_a_label_is_sent_at_most_once_and_only_if_there_is_one(stream):
    _, known = stream
    schedule = laid_out(stream)
    sent = [*schedule.labels, *(row for day in schedule.days for row in day.labels)]
    assert len(sent) == len(set(sent))
    last = schedule.days[-1].end_us
    assert set(sent) == set(np.flatnonzero((known != NEVER) & (known <= last)))


@given(streams())
def test_no_label_is_sent_before_it_is_known_or_before_its_row(stream):
    times, known = stream
    for day in laid_out(stream).days:
        assert (known[day.labels] <= day.end_us).all()
        assert (times[day.labels] < day.end_us).all()


@given(streams())
def test_labels_follow_markers_in_order_of_time(stream):
    _, known = stream
    for day in laid_out(stream).days:
        # A label known at the very marker may follow it, for a row that came with it.
        assert (known[day.labels] >= day.start_us).all()
        assert (np.diff(known[day.labels]) >= 0).all()


def test_days_are_whole_blocks_from_the_epoch_and_the_first_training_ends_one():
    times = np.array([250, 390, 410, 620], dtype=np.int64)
    known = np.array([300, NEVER, 400, 620], dtype=np.int64)
    schedule = plan(times, known, block_us=BLOCK, bootstrap_us=150)
    assert schedule.cutoff_us == 400
    assert (schedule.rows, schedule.labels.tolist()) == (slice(0, 2), [0])
    assert [(day.start_us, day.end_us) for day in schedule.days] == [
        (400, 500),
        (500, 600),
        (600, 700),
    ]
    # Known at 400 but asked about at 410: with its row.
    assert [day.labels.tolist() for day in schedule.days] == [[2], [], [3]]


def test_a_label_known_at_a_days_end_belongs_to_that_day():
    times = np.array([0, 100, 250], dtype=np.int64)
    known = np.array([200, 300, 300], dtype=np.int64)
    schedule = plan(times, known, block_us=BLOCK, bootstrap_us=100)
    assert [day.labels.tolist() for day in schedule.days] == [[0], [1, 2]]


def test_a_replay_may_stop_early():
    times = np.arange(0, 1000, 50, dtype=np.int64)
    schedule = plan(times, times, block_us=BLOCK, bootstrap_us=200, until_us=500)
    assert schedule.days[-1].end_us == 500
    assert schedule.days[-1].rows == slice(8, 10)


def test_a_bootstrap_longer_than_the_file_is_refused():
    with pytest.raises(ClientError, match="--bootstrap: expected some of the file's time"):
        plan(np.array([0]), np.array([0]), block_us=BLOCK, bootstrap_us=500)


def test_a_file_without_rows_is_refused():
    empty = np.empty(0, dtype=np.int64)
    with pytest.raises(ClientError, match="data: expected rows; found none"):
        plan(empty, empty, block_us=BLOCK, bootstrap_us=0)


DAY_US = 86_400_000_000
MARCH_US = 1_362_096_000_000_000


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (2, {1: "2013-03-01", 2: "2013-03-02"}),
        (70, {31: "2013-03", 61: "2013-04", 70: "2013-05"}),
        (61, {31: "2013-03", 61: "2013-04"}),
    ],
)
def test_a_long_replay_is_told_of_by_the_month_and_a_short_one_by_the_day(days, expected):
    times = MARCH_US + DAY_US * np.arange(days, dtype=np.int64)
    schedule = plan(times, times, block_us=DAY_US, bootstrap_us=0)
    assert schedule.period_ends() == expected
