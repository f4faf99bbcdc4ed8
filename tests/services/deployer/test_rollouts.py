"""The rollout as a state machine: it only moves on evidence, and it always ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.contracts.specs.model import AbortIf, Approval, Rollout
from gyral.deployer.domain.rollouts import (
    Abort,
    Advance,
    Arm,
    Await,
    Extend,
    Measured,
    Stage,
    State,
    approved,
    decide,
    warmed,
    weight,
)
from gyral.modelling.sequences import Interval

DAY_S = 86_400.0
RULES = Rollout(shadow=500, canary=(5, 25, 100), per_step=2000)
SHADOW = State(Stage.SHADOW)
FIRST = State(Stage.CANARY, 0)


def measured(champion=0, candidate=0, failed=0, lower=None, per_request=10):
    return Measured(
        Arm(champion, requests=champion // per_request),
        Arm(candidate, requests=candidate // per_request, failed_rows=failed),
        lower,
    )


def test_a_first_version_needs_no_canary_and_others_begin_as_shadows():
    assert warmed(RULES, bootstrap=True).stage is Stage.COMPLETED
    assert warmed(RULES, bootstrap=False) == SHADOW
    assert warmed(Rollout(shadow=0), bootstrap=False) == FIRST
    assert warmed(Rollout(shadow=0, canary=(100,)), bootstrap=False).stage is Stage.COMPLETED


def test_a_step_goes_on_until_the_model_answered_its_rows():
    assert decide(SHADOW, measured(499, 499), RULES) is None
    assert decide(SHADOW, measured(500, 500), RULES) == Advance(FIRST)
    assert decide(FIRST, measured(1899, 100), RULES) is None
    assert decide(FIRST, measured(1900, 100), RULES) == Advance(State(Stage.CANARY, 1))
    assert decide(State(Stage.CANARY, 1), measured(1500, 500), RULES) == Advance(
        State(Stage.COMPLETED)
    )


def test_a_candidate_without_its_share_is_given_one_more_step_and_no_second():
    extended = decide(FIRST, measured(1990, 10), RULES)
    assert extended == Extend(State(Stage.CANARY, 0, extended=True))
    again = State(Stage.CANARY, 0, extended=True)
    assert decide(again, measured(2990, 20), RULES) is None
    assert isinstance(decide(again, measured(3980, 20), RULES), Abort)
    assert decide(again, measured(3800, 200), RULES) == Advance(State(Stage.CANARY, 1))


def test_a_share_that_is_small_by_luck_passes_and_one_without_a_request_never_does():
    again = State(Stage.CANARY, 0, extended=True)
    next_step = Advance(State(Stage.CANARY, 1))
    assert decide(again, measured(4432, 80, per_request=16), RULES) == next_step
    assert isinstance(decide(again, measured(4496, 16, per_request=16), RULES), Abort)
    assert isinstance(decide(again, measured(4000, 0, per_request=400), RULES), Abort)


def test_errors_and_latency_end_a_rollout_at_once():
    by_errors = decide(SHADOW, measured(10, 10, failed=1), RULES)
    assert isinstance(by_errors, Abort)
    assert "error rate" in by_errors.reason
    by_latency = decide(FIRST, measured(10, 10, lower=2.5), RULES)
    assert isinstance(by_latency, Abort)
    assert "p99" in by_latency.reason


def test_a_paused_rollout_holds_its_step_and_still_ends_where_it_must():
    held = State(Stage.SHADOW, paused=True)
    assert decide(held, measured(10**6, 10**6), RULES) is None
    assert isinstance(decide(held, measured(10, 10, failed=1), RULES), Abort)


def test_an_ended_rollout_and_one_that_warms_up_do_not_move():
    for stage in (Stage.COMPLETED, Stage.ABORTED, Stage.ROLLED_BACK, Stage.WARMING):
        assert decide(State(stage), measured(10**6, 10**6, failed=10**6), RULES) is None


def failing(failed, requests, *, of_champion=0):
    """One row a request, so few failures that no rate is above its limit."""
    return Measured(
        Arm(requests, requests, failed_rows=of_champion, failed_requests=of_champion),
        Arm(requests, requests, failed_rows=failed, failed_requests=failed),
    )


def test_more_errors_than_the_champion_has_for_certain_end_it_below_the_limit():
    lenient = Rollout(shadow=10**6, abort_if=AbortIf(error_rate=0.5))
    stopped = decide(SHADOW, failing(40, 4000), lenient)
    assert isinstance(stopped, Abort)
    assert stopped.reason == (
        "errors: expected no more than the champion's 0 of 4000 requests; found 40 of 4000"
    )
    assert decide(SHADOW, failing(40, 4000, of_champion=40), lenient) is None
    assert decide(SHADOW, failing(1, 20), lenient) is None


@pytest.mark.parametrize(
    ("lower", "upper", "ends"),
    [(0.31, 0.5, True), (-0.6, -0.35, True), (0.2, 0.5, False), (-0.1, 0.1, False)],
)
def test_scores_that_are_elsewhere_for_certain_end_it(lower, upper, ends):
    seen = Measured(Arm(10, 10), Arm(10, 10), score_shift=Interval(lower, upper))
    decision = decide(SHADOW, seen, RULES)
    assert isinstance(decision, Abort) is ends
    if isinstance(decision, Abort):
        assert decision.reason.startswith("scores: expected a mean within 0.3")


def test_a_step_that_takes_too_long_takes_the_version_back_unless_it_is_paused():
    soon = Rollout(shadow=500, step_limit="7d")
    late = Measured(Arm(499, 50), Arm(499, 50), elapsed_s=7 * DAY_S + 1)
    stopped = decide(SHADOW, late, soon)
    assert isinstance(stopped, Abort)
    assert stopped.reason == "time: expected 500 rows within 7d; found 499"
    assert decide(SHADOW, Measured(Arm(), Arm(), elapsed_s=7 * DAY_S), soon) is None
    assert decide(State(Stage.SHADOW, paused=True), late, soon) is None
    enough = Measured(Arm(500, 50), Arm(500, 50), elapsed_s=8 * DAY_S)
    assert decide(SHADOW, enough, soon) == Advance(FIRST)


def test_a_shadow_that_passed_awaits_approval_where_the_spec_asks_for_it():
    rules = Rollout(shadow=500, approval=Approval.REQUIRED, step_limit="7d")
    waiting = State(Stage.SHADOW, awaiting=True)
    assert decide(SHADOW, measured(500, 500), rules) == Await(waiting)
    assert decide(waiting, measured(10**6, 10**6), rules) is None
    assert approved(rules) == FIRST
    late = decide(waiting, Measured(Arm(), Arm(), elapsed_s=8 * DAY_S), rules)
    assert isinstance(late, Abort)
    assert late.reason == "time: expected an operator's word within 7d; found none"
    assert isinstance(decide(waiting, measured(10, 10, failed=1), rules), Abort)


def test_an_experiment_keeps_its_weight_until_an_operator_decides():
    rules = Rollout(shadow=500, canary=(), ab=40)
    both = State(Stage.AB)
    assert decide(SHADOW, measured(500, 500), rules) == Advance(both)
    assert weight(both, rules) == 40
    assert decide(both, measured(10**6, 10**6), rules) is None
    assert isinstance(decide(both, measured(10, 10, failed=1), rules), Abort)
    assert warmed(Rollout(shadow=0, canary=(), ab=40), bootstrap=False) == both


@pytest.mark.parametrize(
    "declared",
    [
        {"approval": "required", "shadow": 0},
        {"ab": 50},
        {"ab": 100, "canary": []},
        {"step_limit": "0s"},
        {"abort_if": {"score_shift": 0}},
        {"approval": "sometimes"},
    ],
)
def test_what_cannot_be_done_is_refused_when_it_is_declared(declared):
    with pytest.raises(ValueError, match="for Rollout"):
        Rollout.model_validate(declared)


@given(
    st.lists(
        st.tuples(st.integers(0, 900), st.integers(0, 900), st.integers(0, 5)), max_size=60
    )
)
def test_weights_never_fall_until_it_ends_and_no_evidence_never_completes(days):
    state, champion, candidate, failed, last = SHADOW, 0, 0, 0, 0
    for more_champion, more_candidate, more_failed in days:
        champion, candidate = champion + more_champion, candidate + more_candidate
        failed += min(more_failed, more_candidate)
        decision = decide(state, measured(champion, candidate, failed), RULES)
        if decision is None:
            continue
        if isinstance(decision, Advance):
            assert candidate > 0
            champion = candidate = failed = 0
            assert weight(decision.state, RULES) >= last
            last = weight(decision.state, RULES)
        state = decision.state
        if state.ended:
            break
