"""The rollout as a state machine: it only moves on evidence, and it always ends."""

from hypothesis import given
from hypothesis import strategies as st

from gyral.contracts.specs.model import Rollout
from gyral.deployer.domain.rollouts import (
    Abort,
    Advance,
    Arm,
    Extend,
    Measured,
    Stage,
    State,
    decide,
    warmed,
    weight,
)

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
