import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bernoulli
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from gyral.modelling.metrics import (
    ScoreSums,
    brier_scores,
    entropies,
    expected_calibration_error,
    log_losses,
    roc_auc,
)

rows = st.lists(
    st.tuples(st.booleans(), st.integers(1, 19).map(lambda n: n / 20)), min_size=1, max_size=80
)


def arrays(pairs):
    return np.array([y for y, _ in pairs]), np.array([p for _, p in pairs])


def test_values_worked_by_hand():
    positive, probability = np.array([True, False]), np.array([0.5, 0.25])
    np.testing.assert_allclose(log_losses(positive, probability), np.log([2, 4 / 3]))
    np.testing.assert_allclose(entropies(np.array([0.5])), np.log(2))
    np.testing.assert_allclose(brier_scores(positive, probability), [0.25, 0.0625])


def test_a_certain_error_costs_much_but_not_everything():
    losses = log_losses(np.array([True, False]), np.array([0.0, 1.0], dtype=np.float32))
    np.testing.assert_allclose(losses, -np.log(1e-7), rtol=1e-9)
    np.testing.assert_allclose(entropies(np.array([0.0, 1.0])), 0.0, atol=2e-6)


def test_auc_counts_ties_half():
    positive = np.array([False, True, False, True])
    assert roc_auc(positive, np.array([0.1, 0.1, 0.3, 0.4])) == (0.5 + 0 + 1 + 1) / 4
    assert np.isnan(roc_auc(np.array([True]), np.array([0.5])))


def test_calibration_error_is_the_gap_within_bins():
    # Two bins of two: predicted .2 and .8, observed .5 and .5.
    positive = np.array([True, False, True, False])
    probability = np.array([0.1, 0.3, 0.7, 0.9])
    assert expected_calibration_error(positive, probability, bins=2) == pytest.approx(0.3)
    assert np.isnan(expected_calibration_error(positive[:0], probability[:0]))


def test_a_calibrated_model_has_next_to_no_error_and_no_excess():
    rng = np.random.default_rng(3)
    probability = rng.beta(2, 5, 200_000)
    positive = rng.random(200_000) < probability
    assert expected_calibration_error(positive, probability) < 0.005
    assert abs(ScoreSums.of(positive, probability).mean_excess) < 0.005
    overconfident = probability**2 / (probability**2 + (1 - probability) ** 2)
    assert ScoreSums.of(positive, overconfident).mean_excess > 0.05


@given(rows)
def test_scores_agree_with_scipy_and_sklearn(pairs):
    positive, probability = arrays(pairs)
    sums = ScoreSums.of(positive, probability)
    assert sums.mean_log_loss == pytest.approx(
        log_loss(positive, probability, labels=[False, True]), abs=1e-9
    )
    assert sums.mean_brier == pytest.approx(brier_score_loss(positive, probability), abs=1e-9)
    assert sums.mean_entropy == pytest.approx(bernoulli.entropy(probability).mean(), abs=1e-9)
    assert sums.bias == pytest.approx(probability.mean() - positive.mean(), abs=1e-9)
    if 0 < positive.sum() < len(positive):
        expected = roc_auc_score(positive, probability)
        assert roc_auc(positive, probability) == pytest.approx(expected, abs=1e-9)


@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_rows_never_matters(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    for metric in (roc_auc, expected_calibration_error):
        np.testing.assert_allclose(
            metric(*arrays(pairs)), metric(*arrays(shuffled)), atol=1e-12
        )


@given(rows, rows)
def test_merged_sums_are_those_of_merged_rows(first, second):
    merged = ScoreSums.of(*arrays(first)) + ScoreSums.of(*arrays(second))
    whole = ScoreSums.of(*arrays(first + second))
    assert (merged.rows, merged.positives) == (whole.rows, whole.positives)
    assert merged.log_loss == pytest.approx(whole.log_loss, abs=1e-9)
    assert merged.mean_excess == pytest.approx(whole.mean_excess, abs=1e-9)


def test_no_rows_have_no_mean():
    assert np.isnan(ScoreSums().mean_log_loss)
