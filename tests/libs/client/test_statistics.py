import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from gyral.client.replay.variants import Variant
from gyral.client.report import statistics
from gyral.client.report.limits import Limits, missed, read

DAY_US = 86_400_000_000
FIRST_US = int(np.datetime64("2013-03-01", "us").astype(np.int64))


def a_year(rows=4000, seed=3):
    rng = np.random.default_rng(seed)
    truth = rng.beta(2, 5, rows)
    positive = rng.random(rows) < truth
    times = np.sort(FIRST_US + rng.integers(0, 90 * DAY_US, rows))
    blurred = np.clip(truth + rng.normal(0, 0.2, rows), 0.01, 0.99)
    return statistics.Scored(
        times,
        positive,
        {Variant.FROZEN: blurred, Variant.TIMER: truth, Variant.LOOP: truth},
    )


def test_scores_are_those_of_scikit_learn():
    rows = a_year()
    found = statistics.summary(rows)
    for variant, chances in rows.probability.items():
        assert found.log_loss[variant] == pytest.approx(log_loss(rows.positive, chances))
        assert found.auc[variant] == pytest.approx(roc_auc_score(rows.positive, chances))


def test_months_are_those_of_event_time_and_hold_all_rows():
    rows = a_year()
    months = statistics.by_month(rows)
    assert list(months) == ["2013-03", "2013-04", "2013-05"]
    assert sum(month.rows for month in months.values()) == rows.rows
    march = rows.times_us < FIRST_US + 31 * DAY_US
    expected = log_loss(rows.positive[march], rows.probability[Variant.LOOP][march])
    assert months["2013-03"].log_loss[Variant.LOOP] == pytest.approx(expected)


def test_a_gain_has_a_bound_below_it_and_equal_models_gain_nothing():
    rows = a_year()
    gain = statistics.gain(rows, Variant.FROZEN, Variant.LOOP)
    assert gain.lower95 is not None
    assert gain.mean is not None
    assert 0 < gain.lower95 < gain.mean
    assert gain.weeks in (13, 14)
    same = statistics.gain(rows, Variant.TIMER, Variant.LOOP)
    assert (same.mean, same.lower95) == (0, 0)


def test_one_week_says_nothing_of_how_weeks_differ():
    rows = a_year()
    week = rows.times_us // statistics.WEEK_US == rows.times_us[0] // statistics.WEEK_US
    some = statistics.Scored(
        rows.times_us[week],
        rows.positive[week],
        {variant: values[week] for variant, values in rows.probability.items()},
    )
    assert statistics.gain(some, Variant.FROZEN, Variant.LOOP).lower95 is None


def test_only_rows_that_all_models_answered_and_that_have_a_label_count():
    chances = np.array([0.1, 0.2, np.nan, 0.4, 0.5])
    whole = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    labelled = np.array([True, True, True, False, True])
    rows = statistics.scored(
        np.arange(5),
        np.array([True] * 5),
        labelled,
        {Variant.FROZEN: whole, Variant.TIMER: whole, Variant.LOOP: chances},
        slice(1, 5),
    )
    assert rows.times_us.tolist() == [1, 4]


def test_no_rows_have_no_scores():
    none = np.empty(0)
    empty = statistics.Scored(
        none.astype(np.int64), none.astype(bool), dict.fromkeys(Variant, none)
    )
    assert statistics.summary(empty).log_loss[Variant.LOOP] is None
    assert statistics.gain(empty, Variant.FROZEN, Variant.LOOP).mean is None


GOOD = b"""{
  "log_loss_gain": {"mean": 0.02, "lower95": 0.012},
  "auc": {"frozen": 0.72, "timer": 0.75, "loop": 0.75},
  "promotions": 2, "promoted": [
    {"version": 2, "cause": "cusum", "by_monitor": true, "passing_verdict": true},
    {"version": 3, "cause": "excess_loss", "by_monitor": true, "passing_verdict": true}],
  "rejections": 0, "why_no_rejection": "all passed",
  "invariants": {"one_champion_per_model": 0},
  "trace": {"trace_id": "abc", "services": ["deployer", "monitor", "registry", "trainer"]}}"""
LIMITS = Limits(0.015, 0.008, 0.02, 2, 12)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (b'"mean": 0.02', b'"mean": 0.01', "log-loss gain 0.01"),
        (b'"lower95": 0.012', b'"lower95": null', "lower bound None"),
        (b'"loop": 0.75', b'"loop": 0.73', "AUC gain"),
        (b'"by_monitor": true', b'"by_monitor": false', "without a monitor's request"),
        (b'"passing_verdict": true', b'"passing_verdict": false', "or a passing verdict"),
        (b'"all passed"', b"null", "neither a rejection nor"),
        (b'_model": 0', b'_model": 2', "one_champion_per_model: 2"),
        (b'"registry", ', b"", "no trace to a route, but spans of ['deployer',"),
        (b'"trace": {', b'"trace": null, "t": {', "but spans of []"),
    ],
)
def test_a_report_that_misses_a_limit_is_told_so(tmp_path, old, new, named):
    path = tmp_path / "report.json"
    path.write_bytes(GOOD)
    assert missed(read(path), LIMITS) == []
    path.write_bytes(GOOD.replace(old, new))
    [line] = missed(read(path), LIMITS)
    assert named in line
