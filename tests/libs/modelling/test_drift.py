import numpy as np
import pytest

from gyral.modelling.drift import SD_FLOOR, DriftCalibration, calibrate_drift
from gyral.modelling.features import FeatureKind, FeatureSpec
from gyral.modelling.histograms import js_distances, reference_bins

FEATURES = [
    FeatureSpec("wind", FeatureKind.NUMERIC),
    FeatureSpec("seats", FeatureKind.NUMERIC),
    FeatureSpec("carrier", FeatureKind.CATEGORICAL),
]
CARRIERS = np.array(["AA", "B6", "DL", "UA"], dtype=object)


def rng():
    return np.random.default_rng(7)


def days(count, noise, shares=(0.4, 0.3, 0.2, 0.1), rows=500):
    """Each day has its own wind, as weather does; seats and carriers do not vary by day."""
    ids = np.repeat(np.arange(count), rows)
    columns = {
        "wind": noise.normal(0, 1, count)[ids] + noise.normal(0, 1, len(ids)),
        "seats": noise.normal(150, 30, len(ids)),
        "carrier": CARRIERS[noise.choice(4, len(ids), p=shares)],
    }
    return columns, ids


@pytest.fixture(scope="module")
def calibrated():
    columns, ids = days(60, np.random.default_rng(1))
    bins = reference_bins(columns, FEATURES)
    _, counts = bins.count_blocks(columns, ids)
    return bins, counts, calibrate_drift(counts, bins.offsets, rng())


def alarms(calibrated, columns, ids):
    bins, counts, drift = calibrated
    _, live = bins.count_blocks(columns, ids)
    return drift.max_z(bins.js_distances(counts.sum(axis=0), live)) > drift.limit


def test_days_without_a_trend_seldom_alarm(calibrated):
    found = alarms(calibrated, *days(1000, np.random.default_rng(2)))
    assert found.mean() <= 0.05


def test_rows_taken_as_independent_would_alarm_on_nearly_every_day(calibrated):
    bins, counts, _ = calibrated
    columns, ids = days(60, np.random.default_rng(1))
    shuffled = rng().permutation(ids)
    _, mixed = bins.count_blocks(columns, shuffled)
    naive = (bins, counts, calibrate_drift(mixed, bins.offsets, rng()))
    assert alarms(naive, *days(200, np.random.default_rng(2))).mean() > 0.6


def test_ten_points_more_of_a_carrier_alarm_every_day(calibrated):
    shifted = days(200, np.random.default_rng(3), shares=(0.3, 0.3, 0.2, 0.2))
    assert alarms(calibrated, *shifted).mean() >= 0.95


def test_the_evidence_names_the_feature(calibrated):
    bins, counts, drift = calibrated
    columns, _ = days(1, np.random.default_rng(4))
    columns["seats"] = columns["seats"] + 60
    evidence = drift.judge(bins, counts.sum(axis=0), bins.count(columns))
    assert (evidence.feature, evidence.drifted) == ("seats", True)
    assert evidence.max_z == max(evidence.z.values()) > evidence.limit == drift.limit


def test_a_drawn_block_is_left_out_of_what_it_is_compared_with():
    # Two blocks: each drawn window of one is compared with the other one.
    counts = np.array([[30, 10], [10, 30]])
    drift = calibrate_drift(counts, np.array([0]), rng())
    distance = js_distances(counts[0], counts[1], np.array([0]))
    np.testing.assert_allclose(drift.means, distance)
    assert drift.sds == (SD_FLOOR,)
    assert drift.fewest_rows == 40


def test_longer_windows_vary_less(calibrated):
    bins, counts, one = calibrated
    week = calibrate_drift(counts, bins.offsets, rng(), window_blocks=7)
    assert week.means[0] < one.means[0]
    assert week.fewest_rows == 7 * one.fewest_rows == 3500


def test_the_same_seed_gives_the_same_limit(calibrated):
    bins, counts, drift = calibrated
    assert calibrate_drift(counts, bins.offsets, rng()) == drift


def test_z_is_in_spreads_above_the_mean():
    drift = DriftCalibration(means=(0.1, 0.2), sds=(0.05, 0.1), limit=3.0, fewest_rows=9)
    np.testing.assert_allclose(drift.z(np.array([0.2, 0.2])), [2.0, 0.0])
    assert drift.max_z(np.array([0.2, 0.2])) == pytest.approx(2.0)


@pytest.mark.parametrize("window", [0, 2, 3])
def test_a_reference_no_longer_than_a_window_is_refused(window):
    with pytest.raises(ValueError, match=f"window_blocks: expected 1 to 1, .* found {window}"):
        calibrate_drift(np.ones((2, 2), int), np.array([0]), rng(), window_blocks=window)


def test_blocks_without_rows_are_no_reference():
    counts = np.array([[30, 10], [0, 0], [10, 30]])
    assert calibrate_drift(counts, np.array([0]), rng()).fewest_rows == 40
