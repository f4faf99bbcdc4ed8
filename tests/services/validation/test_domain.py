"""Values worked by hand, then laws."""

from hypothesis import given
from hypothesis import strategies as st

from gyral.contracts.specs.stream import Clock
from gyral.validation.domain.identity import Identity, Seen, recall
from gyral.validation.domain.refusals import printable
from gyral.validation.domain.watermark import (
    PartitionTime,
    forwardable,
    latest,
    stream_watermark,
)

DAY = 86_400_000_000
times = st.none() | st.integers(0, 10 * DAY)
partition_times = st.builds(PartitionTime, times, times, times)


def test_a_key_never_seen_is_new():
    assert recall(None, Identity(b"a", 0), 0) is Seen.NEW


def test_the_same_content_is_a_duplicate_however_late():
    assert recall(Identity(b"a", 0), Identity(b"a", 0), 0) is Seen.DUPLICATE


def test_other_content_conflicts_within_the_dedupe_time_and_is_new_beyond_it():
    known = Identity(b"a", 10 * DAY)
    assert recall(known, Identity(b"b", 17 * DAY), 7 * DAY) is Seen.CONFLICT
    assert recall(known, Identity(b"b", 3 * DAY), 7 * DAY) is Seen.CONFLICT
    assert recall(known, Identity(b"b", 17 * DAY + 1), 7 * DAY) is Seen.NEW


def test_lateness_holds_data_back_and_leaves_markers_alone():
    time = PartitionTime(data_us=100, marker_us=50)
    assert time.watermark(30) == 70
    assert time.watermark(60) == 50


def test_a_stream_waits_for_its_slowest_partition():
    seen = {0: PartitionTime(data_us=9), 1: PartitionTime(marker_us=4)}
    assert stream_watermark(seen, [0, 1], 0) == 4
    assert stream_watermark(seen, [0, 1, 2], 0) is None


def test_on_an_event_clock_only_markers_are_told_on():
    seen = {0: PartitionTime(data_us=9, marker_us=3), 1: PartitionTime(data_us=8, marker_us=4)}
    assert forwardable(seen, [0, 1], 0, Clock.EVENT) == 3
    assert forwardable(seen, [0, 1], 0, Clock.WALL) == 8
    assert forwardable({0: PartitionTime(data_us=9)}, [0], 0, Clock.EVENT) is None


@given(st.lists(partition_times, min_size=1))
def test_time_never_goes_back_and_order_does_not_matter(seen):
    whole = PartitionTime()
    reached = None
    for part in seen:
        whole = whole.merged(part)
        now = whole.watermark(0)
        assert latest(reached, now) == now
        reached = now
    backwards = PartitionTime()
    for part in reversed(seen):
        backwards = backwards.merged(part)
    assert backwards == whole


@given(st.dictionaries(st.integers(0, 2), partition_times), st.integers(0, DAY))
def test_what_is_told_on_never_runs_ahead_of_the_watermark(seen, lateness):
    told = forwardable(seen, range(3), lateness, Clock.EVENT)
    if told is not None:
        reached = stream_watermark(seen, range(3), lateness)
        assert reached is not None
        assert told <= reached


@given(st.text(st.characters(exclude_categories=())))
def test_printable_text_can_be_stored_and_shown(text):
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) <= 500
    shown.encode()
