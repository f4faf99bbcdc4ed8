"""A block of another length: no moment is measured twice, none is left out."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.kit.tx import begin
from gyral.monitor.domain.measuring import shift
from gyral.monitor.store import MonitorTx
from gyral.monitor.store.windows import Watched
from tests.services.monitor.builders import (
    DAY_US,
    START_US,
    Log,
    a_profile,
    a_watch,
    an_answer,
    labels_of,
)

HOUR_US = DAY_US // 24
lengths = st.sampled_from(["1s", "7m", "1h", "7h", "24h", "60h", "7d", "90d"])


@given(st.lists(st.tuples(lengths, st.integers(0, 100 * 24)), min_size=1, max_size=6))
def test_windows_of_changing_lengths_never_overlap_and_leave_no_moment_out(declared):
    closed_us, reached_us = None, START_US
    for block, hours in declared:
        watch = a_watch(monitor={"block": block})
        reached_us += hours * HOUR_US
        until_us = watch.floor(reached_us)
        if closed_us is not None and until_us <= closed_us:
            continue
        first_us, _ = watch.window(watch.floor(closed_us or START_US), closed_us)
        start_us, end_us = watch.window(until_us - watch.block_us, closed_us)
        if closed_us is not None:
            assert first_us == closed_us
            assert start_us >= closed_us
        assert end_us == until_us
        closed_us = until_us


def test_a_window_after_a_change_ends_at_its_blocks_boundary():
    watch = a_watch(monitor={"block": "60h"})
    block_us = watch.floor(START_US + 72 * HOUR_US)
    assert watch.window(block_us, None) == (block_us, block_us + 60 * HOUR_US)
    closed_us = START_US + 72 * HOUR_US
    assert watch.window(block_us, closed_us) == (closed_us, START_US + 120 * HOUR_US)
    later_us = START_US + 120 * HOUR_US
    assert watch.window(later_us, closed_us) == (later_us, later_us + 60 * HOUR_US)


def test_a_block_has_a_length():
    with pytest.raises(ValueError, match="expected a length above 0; found 0s"):
        a_watch(monitor={"block": "0s"})


def test_counts_of_other_rows_than_the_windows_say_nothing_of_drift():
    profile, counts = a_profile(), a_profile().features.totals
    rows = int(counts[: profile.features.bins.features[0].size].sum())
    probabilities = a_profile().scores.totals[:0].astype(float)
    probabilities.resize(rows)
    assert shift(profile, counts, probabilities).features is not None
    assert shift(profile, counts, probabilities[1:]).features is None


def a_day(day):
    """Twelve answers of five rows, spread over the day."""
    every = 2 * HOUR_US
    return [
        an_answer(
            number,
            day,
            rows=5,
            event_times=[START_US + day * DAY_US + number * every + row for row in range(5)],
        )
        for number in range(12)
    ]


class Days:
    """A log that is read on from where it was."""

    def __init__(self, monitor):
        self.monitor, self.log = monitor, Log()
        self.read = dict.fromkeys(self.log.partitions, 0)

    async def pass_by(self, days):
        for day in days:
            answers = a_day(day)
            self.log.day(day, answers, labels_of(answers))
        new = []
        for place, records in self.log.partitions.items():
            new += records[self.read[place] :]
            self.read[place] = len(records)
        await self.monitor.deliver(*new)


@pytest.mark.live
async def test_every_row_is_in_one_window_however_often_the_block_changes(monitor):
    await monitor.crown()
    days = Days(monitor)
    await days.pass_by(range(4))
    for generation, block in enumerate(["60h", "7h", "7d", "24h", "1h"], 2):
        monitor.redeclare(generation, monitor={"block": block, "min_rows": 5})
        first = 4 + 8 * (generation - 2)
        await days.pass_by(range(first, first + 8))
    windows, _, _ = await monitor.outcome()
    assert all(before.end_us <= after.start_us for before, after in pairwise(windows))
    closed = windows[-1].end_us
    assert closed > START_US + 40 * DAY_US
    times = [time for day in range(44) for it in a_day(day) for time in it["event_times"]]
    assert sum(window.rows for window in windows) == sum(time < closed for time in times)
    assert sum(window.labelled_rows for window in windows) == sum(it.rows for it in windows)


@pytest.mark.live
async def test_a_reference_in_other_blocks_stays_silent_until_a_version_has_its_own(monitor):
    await monitor.crown()
    days = Days(monitor)
    await days.pass_by(range(6))
    monitor.redeclare(2, monitor={"block": "12h", "min_rows": 5})
    await days.pass_by(range(6, 10))
    windows, _, _ = await monitor.outcome()
    daily = [it for it in windows if it.end_us - it.start_us == DAY_US]
    halves = [it for it in windows if it.end_us - it.start_us == DAY_US // 2]
    assert daily
    assert halves
    assert all(it.measures["drift_max_z"] is not None for it in daily)
    assert all(it.measures["z"] is not None for it in daily)
    assert all(it.measures["drift_max_z"] is None for it in halves)
    assert all(it.measures["z"] is None for it in halves)
    assert all(it.measures["cusum"] == 0 for it in halves), "detectors begin anew"
    assert all(it.measures["log_loss"] is not None for it in halves)


@pytest.mark.live
async def test_what_the_detectors_saw_is_remembered_with_its_length(monitor):
    await monitor.crown()
    await Days(monitor).pass_by(range(3))
    async with begin(monitor.pool, MonitorTx, service="monitor")() as tx:
        watched = await tx.watched("delays")
    assert isinstance(watched, Watched)
    assert watched.block_us == DAY_US
