import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.modelling.blocks import (
    TooFewBlocksError,
    block_ids,
    block_sums,
    bootstrap_means,
    mean_bounds,
    paired_bounds,
)

DAY_US = 86_400_000_000


def rng():
    return np.random.default_rng(7)


def test_blocks_start_at_whole_lengths_from_the_epoch():
    times = [-1, 0, DAY_US - 1, DAY_US, 1_356_998_400_000_000]
    assert block_ids(times, DAY_US).tolist() == [-1, 0, 0, 1, 15_706]  # 2013-01-01


def test_a_length_of_nothing_is_refused():
    with pytest.raises(ValueError, match="length_us: expected > 0, found 0"):
        block_ids([1], 0)


def test_sums_are_per_block_in_order_of_time():
    sums = block_sums(np.array([5, 3, 5, 3, 3]), np.array([1.0, 2.0, 3.0, 4.0, 6.0]))
    assert (sums.ids.tolist(), sums.rows.tolist()) == ([3, 5], [3, 2])
    assert sums.sums.tolist() == [12.0, 4.0]
    assert sums.mean == 3.2


def test_a_block_weighs_by_its_rows():
    # Draws of two blocks: twice the large (mean 1), one of each (99/100), twice the small (0).
    sums = block_sums(np.array([0] * 99 + [1]), np.array([1.0] * 99 + [0.0]))
    means = bootstrap_means(sums, rng(), 4000)
    values, counts = np.unique(means, return_counts=True)
    assert values.tolist() == [0.0, 0.99, 1.0]
    np.testing.assert_allclose(counts / 4000, [0.25, 0.5, 0.25], atol=0.03)


def test_dependent_rows_widen_the_bounds():
    days = np.repeat(np.arange(30), 200)
    noise = np.random.default_rng(1)
    losses = 0.02 + noise.normal(0, 0.1, 30)[days] + noise.normal(0, 0.1, len(days))
    by_day = paired_bounds(losses, np.zeros_like(losses), days, rng())
    by_row = paired_bounds(losses, np.zeros_like(losses), np.arange(len(days)), rng())
    assert by_day.mean == pytest.approx(by_row.mean, rel=1e-9)
    assert (by_day.upper - by_day.lower) > 5 * (by_row.upper - by_row.lower)
    assert (by_day.blocks, by_day.rows) == (30, 6000)


def test_the_bound_errs_about_as_often_as_it_says():
    noise = np.random.default_rng(2)
    sums = [block_sums(np.arange(40), noise.normal(0, 1, 40)) for _ in range(600)]
    wrong = sum(mean_bounds(it, noise, draws=500).lower > 0 for it in sums)
    assert 0.02 < wrong / 600 < 0.09


def test_each_bound_is_at_the_confidence_asked_for():
    sums = block_sums(np.arange(40), np.random.default_rng(3).normal(size=40))
    bounds = mean_bounds(sums, rng(), confidence=0.9)
    means = bootstrap_means(sums, rng())
    assert np.mean(means < bounds.lower) == pytest.approx(0.1, abs=0.001)
    assert np.mean(means > bounds.upper) == pytest.approx(0.1, abs=0.001)


def test_the_same_seed_gives_the_same_bounds():
    sums = block_sums(np.arange(9), np.arange(9.0))
    assert mean_bounds(sums, rng()) == mean_bounds(sums, rng())


def test_one_block_is_no_evidence():
    with pytest.raises(TooFewBlocksError, match="expected at least 2, found 1"):
        mean_bounds(block_sums(np.zeros(5, np.int64), np.arange(5.0)), rng())


def test_unpaired_losses_are_refused():
    with pytest.raises(ValueError, match=r"second: expected shape \(2,\), found \(3,\)"):
        paired_bounds(np.zeros(2), np.zeros(3), np.arange(2), rng())


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-9, 9)), min_size=2, max_size=60))
def test_bounds_lie_among_the_blocks_and_around_the_mean_of_equals(rows):
    ids = np.array([block for block, _ in rows] + [6, 7])
    values = np.array([value for _, value in rows] + [0.0, 1.0])
    sums = block_sums(ids, values)
    assert sums.sums.sum() == pytest.approx(values.sum(), abs=1e-9)
    bounds = mean_bounds(sums, rng(), draws=200)
    means = sums.sums / sums.rows
    assert means.min() - 1e-9 <= bounds.lower <= bounds.upper <= means.max() + 1e-9
