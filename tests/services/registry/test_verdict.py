"""Gates: each one must be able to refuse, and a number that is missing refuses too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.registry.domain.verdict import judge, rejudging_id, stale
from tests.services.registry.builders import START, a_model, a_report, a_run, scores

INPUTS = ("pages",)


def failed(verdict):
    return {check.name for check in verdict.checks if not check.passed}


def test_a_first_version_that_is_sane_is_approved_without_a_champion():
    verdict = judge(a_run(), a_report(), INPUTS, a_model().spec)
    assert verdict.approved
    assert "log_loss_gain" not in {check.name for check in verdict.checks}


def test_a_challenger_that_is_surely_better_is_approved():
    assert judge(a_run(1), a_report(1), INPUTS, a_model().spec).approved


def test_a_challenger_that_may_be_worse_is_rejected_with_the_bound_as_reason():
    verdict = judge(a_run(1), a_report(1, gain=0.001, noise=0.02), INPUTS, a_model().spec)
    assert failed(verdict) == {"log_loss_gain"}
    assert "95% lower bound above 0" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"challenger": scores(nan_rows=1)}, "valid"),
        ({"challenger": scores(outside_rows=3)}, "valid"),
        ({"challenger": scores(constant=True)}, "varies"),
        ({"challenger": scores(log_loss=None)}, "baseline"),
        ({"challenger": scores(log_loss=0.7)}, "baseline"),
        ({"challenger": scores(mean_probability=0.4)}, "calibration"),
        ({"challenger": scores(brier=0.2)}, "brier"),
        ({"challenger": scores(ece=0.05)}, "ece"),
        ({"trained_until": START.replace(month=2)}, "leakage"),
        ({"champion_trained_until": START.replace(month=2)}, "champion_leakage"),
        ({"champion_trained_until": None}, "champion_leakage"),
        ({"days": 3}, "blocks"),
        ({"run_id": "33333333-3333-4333-8333-333333333333"}, "identity"),
    ],
)
def test_each_gate_refuses_by_itself(changes, gate):
    verdict = judge(a_run(1), a_report(1, **changes), INPUTS, a_model().spec)
    assert gate in failed(verdict)
    assert not verdict.approved


def test_other_inputs_than_declared_are_rejected():
    assert "schema" in failed(judge(a_run(1), a_report(1), ("pages", "age"), a_model().spec))


def test_a_champion_without_numbers_never_lets_a_challenger_pass():
    report = a_report(1, champion_error="gone").model_copy(
        update={"champion": scores(log_loss=None, brier=None, ece=None)}
    )
    assert {"brier", "ece"} <= failed(judge(a_run(1), report, INPUTS, a_model().spec))


def test_a_verdict_against_a_former_champion_is_no_approval():
    assert not stale(1, 2).approved
    assert rejudging_id("a") == rejudging_id("a") != rejudging_id("b")


@given(st.floats(0.001, 0.05), st.floats(0, 0.0005))
def test_mirrored_losses_never_approve_both_ways(gain, noise):
    better = judge(a_run(1), a_report(1, gain=gain, noise=noise), INPUTS, a_model().spec)
    worse = judge(a_run(1), a_report(1, gain=-gain, noise=noise), INPUTS, a_model().spec)
    assert "log_loss_gain" not in failed(better)
    assert "log_loss_gain" in failed(worse)
