"""Memory of accepted rows: found again whatever was merged, the latest of a key above all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gyral.validation.domain.segments import (
    SLABS,
    Identities,
    Segment,
    Window,
    to_merge,
)


def identities(*rows):
    """Return rows given as (key, content, time); a key is (high, low)."""
    return Identities(
        np.array([key for key, _, _ in rows], dtype=np.uint64).reshape(-1, 2),
        np.array([(content, 0) for _, content, _ in rows], dtype=np.uint64).reshape(-1, 2),
        np.array([time for _, _, time in rows], dtype=np.int64),
        np.zeros(len(rows), dtype=np.int32),
    )


halves = st.integers(0, 3) | st.integers(0, 2**64 - 1)
some_rows = st.lists(
    st.tuples(st.tuples(halves, halves), st.integers(0, 9), st.integers(0, 2**60)), max_size=30
)


@given(st.lists(some_rows, min_size=1, max_size=5), st.lists(st.tuples(halves, halves)))
def test_a_segment_knows_the_latest_row_of_each_key_and_no_other(parts, others):
    segment = Segment.of([identities(*part) for part in parts])
    expected = {key: (content, time) for part in parts for key, content, time in part}
    keys = [*expected, *others]
    places = segment.places(np.array(keys, dtype=np.uint64).reshape(-1, 2))
    assert len(segment) == len(expected)
    for key, place in zip(keys, places.tolist(), strict=True):
        found = (
            None
            if place < 0
            else (int(segment.rows.contents[place, 0]), int(segment.rows.times_us[place]))
        )
        assert found == expected.get(key)


@given(some_rows)
def test_what_is_written_is_read_again(rows):
    before = identities(*rows)
    after = Identities.from_bytes(before.to_bytes())
    for name in ("keys", "contents", "times_us", "revisions"):
        assert np.array_equal(getattr(before, name), getattr(after, name))


def test_bytes_that_are_no_whole_rows_are_refused():
    data = identities(((1, 2), 3, 4)).to_bytes()[:-1]
    with np.testing.assert_raises_regex(ValueError, "expected a multiple of 44 bytes"):
        Identities.from_bytes(data)


@given(st.lists(st.integers(1, 500), max_size=300))
def test_segments_stay_few_and_a_row_is_seldom_written_again(batches):
    lengths: list[int] = []
    written = 0
    for fresh in batches:
        count = to_merge(lengths, fresh, most=1 << 20)
        merged = sum(lengths[len(lengths) - count :]) + fresh
        lengths[len(lengths) - count :] = [merged]
        written += merged
    total = sum(batches)
    assert sum(lengths) == total
    assert len(lengths) <= 1 + np.log2(1 + total)
    assert written <= total * (2 + np.log2(1 + total))


def test_a_long_segment_is_left_as_it_is():
    assert to_merge([90, 10], 10, most=100) == 1
    assert to_merge([90, 10], 10, most=15) == 0


@given(
    st.lists(st.integers(0, 2**50), min_size=1, max_size=50),
    st.integers(0, 2**45),
    st.integers(0, 2**45),
    st.integers(0, 2**40),
)
def test_slabs_part_rows_by_time_and_are_few(times, dedupe_us, arrived_us, seen_us):
    window = Window(dedupe_us, arrived_us)
    array = np.array(times, dtype=np.int64)
    newest_us = max(times)
    parts = window.split(array, seen_us, newest_us)
    assert sorted(np.concatenate([chosen for _, chosen in parts]).tolist()) == [
        *range(len(times))
    ]
    assert len({slab for slab, _ in parts}) == len(parts) <= SLABS + 3
    width_us = max(60_000_000, dedupe_us // SLABS)
    for slab, chosen in parts:
        of_slab = array[chosen]
        assert slab == window.slab(int(of_slab.max()), seen_us, newest_us)
        if of_slab.max() > newest_us - dedupe_us:
            assert of_slab.max() - of_slab.min() < width_us


def test_of_several_rows_of_a_key_the_highest_revision_stays():
    first = identities(((1, 2), 3, 4))
    first.revisions[:] = 1
    assert Segment.of([first, identities(((1, 2), 5, 6))]).rows.contents[0, 0] == 3
