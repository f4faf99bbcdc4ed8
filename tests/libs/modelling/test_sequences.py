import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import betaln
from scipy.stats import beta

from gyral.modelling.sequences import (
    Interval,
    Moments,
    mean_sequence,
    quantile_ratio_lower_bound,
    rate_difference_sequence,
    rate_sequence,
)

values = st.lists(st.floats(-100, 100), max_size=30)


@given(values, values)
def test_merged_moments_are_those_of_merged_values(first, second):
    merged = Moments.of(np.array(first)) + Moments.of(np.array(second))
    both = np.array(first + second)
    assert merged.count == len(both)
    if len(both):
        assert merged.mean == pytest.approx(both.mean(), abs=1e-9)
        assert merged.sd == pytest.approx(both.std(), abs=1e-6)


def test_moments_survive_json():
    seen = Moments.of(np.array([0.1, 0.7]))
    assert Moments.from_json(seen.to_json()) == seen


def test_the_sequence_worked_by_hand():
    # n r^2 = 1: half width = sd sqrt(2 / 20^2 * 2 ln(sqrt(2) / .1 + 1)).
    bounds = mean_sequence(Moments(400, 1.0, 400 * 4.0), alpha=0.05, rho=0.05)
    half = 2.0 * math.sqrt(4 / 400 * math.log(10 * math.sqrt(2) + 1))
    assert bounds.lower == pytest.approx(1.0 - half, abs=1e-12)
    assert bounds.upper == pytest.approx(1.0 + half, abs=1e-12)


def test_one_value_bounds_nothing():
    assert mean_sequence(Moments.of(np.array([3.0]))) == Interval(-math.inf, math.inf)


def test_peeking_after_every_batch_seldom_errs():
    rng = np.random.default_rng(11)
    wrong = 0
    for _ in range(300):
        seen = Moments()
        for _ in range(60):
            seen = seen + Moments.of(rng.exponential(1.0, 100) - 1.0)
            if mean_sequence(seen).lower > 0:
                wrong += 1
                break
    assert wrong / 300 <= 0.08


def test_a_regression_is_found_in_time():
    rng = np.random.default_rng(12)
    needed = []
    for _ in range(50):
        seen = Moments()
        while mean_sequence(seen).upper >= 0 and seen.count < 10_000:
            seen = seen + Moments.of(rng.normal(-0.02, 0.2, 100))
        needed.append(seen.count)
    assert max(needed) < 10_000
    assert np.median(needed) < 2_500


@pytest.mark.parametrize(("events", "trials"), [(0, 100), (3, 200), (500, 1000), (100, 100)])
def test_the_rate_interval_agrees_with_a_root_search(events, trials):
    found = rate_sequence(events, trials, alpha=0.05)

    def margin(rate):
        likelihood = events * math.log(rate) + (trials - events) * math.log1p(-rate)
        return (
            betaln(events + 0.5, trials - events + 0.5)
            - betaln(0.5, 0.5)
            - likelihood
            - math.log(20)
        )

    best = min(max(events / trials, 1e-9), 1 - 1e-9)
    lower = brentq(margin, 1e-12, best, xtol=1e-14) if events else 0.0
    upper = brentq(margin, best, 1 - 1e-12, xtol=1e-14) if events < trials else 1.0
    assert found.lower == pytest.approx(lower, abs=1e-9)
    assert found.upper == pytest.approx(upper, abs=1e-9)


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_rate_interval_holds_the_rate_and_is_wider_than_for_one_look(events, more):
    trials = events + more
    found = rate_sequence(events, trials)
    if not trials:
        assert found == Interval(0.0, 1.0)
        return
    assert 0.0 <= found.lower <= events / trials <= found.upper <= 1.0
    once = beta.ppf([0.025, 0.975], [events, events + 1], [more + 1, more])
    assert found.upper - found.lower > np.diff(np.nan_to_num(once, nan=1.0))[0] * 0.9


def test_peeking_at_errors_seldom_errs():
    rng = np.random.default_rng(13)
    wrong = 0
    for _ in range(200):
        counts = rng.binomial(50, 0.01, size=(2, 40)).cumsum(axis=1).tolist()
        wrong += any(
            rate_difference_sequence((first, 50 * at), (second, 50 * at)).lower > 0
            for at, (first, second) in enumerate(zip(*counts, strict=True), 1)
        )
    assert wrong / 200 <= 0.05


def test_many_more_errors_are_told_apart():
    assert rate_difference_sequence((30, 500), (2, 500)).lower > 0
    assert rate_difference_sequence((3, 500), (2, 500)).lower < 0


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="events: expected 0 to 2, found 3"):
        rate_sequence(3, 2)


def test_a_short_arm_says_nothing_about_its_p99():
    values = np.linspace(1, 2, 600)
    assert quantile_ratio_lower_bound(9 * values, values[:367]) == 0.0
    assert quantile_ratio_lower_bound(9 * values, values[:368]) > 4.0
    assert quantile_ratio_lower_bound(values[:0], values) == 0.0


def test_the_median_ratio_worked_by_hand():
    # P(Binomial(6, .5) = 0) = 1/64 <= .025 < 7/64: the smallest over the largest.
    six = np.array([4.0, 2.0, 6.0, 3.0, 5.0, 7.0])
    assert quantile_ratio_lower_bound(six, six, quantile=0.5) == 2.0 / 7.0
    assert quantile_ratio_lower_bound(six, six[:5], quantile=0.5) == 0.0


def test_the_p99_bound_errs_no_more_often_than_it_says():
    rng = np.random.default_rng(14)
    bounds = [
        quantile_ratio_lower_bound(rng.lognormal(size=500), rng.lognormal(size=500))
        for _ in range(500)
    ]
    assert np.mean(np.array(bounds) > 1.0) <= 0.05
    slow = [
        quantile_ratio_lower_bound(5 * rng.lognormal(size=2000), rng.lognormal(size=2000))
        for _ in range(50)
    ]
    assert np.mean(np.array(slow) > 2.0) >= 0.9
