"""How many runtimes a group should have: out within seconds, in slowly, to none when idle."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.deployer.domain.demand import Demand, Second
from gyral.deployer.domain.scaling import Heard, Limits, Pace, Standing, decide

LIMITS = Limits(min=1, max=4, queue_s=0.05)
TO_NONE = Limits(min=0, max=4, queue_s=0.05, idle_s=900)
PACE = Pace(out_s=3, in_s=300)
NOW = 10_000
BUSY = Second(0, requests=100, answered=100, queued_s=20.0, queue_max_s=0.9)
QUIET = Second(0, requests=100, answered=100, queued_s=0.1, queue_max_s=0.01)


def heard(*seconds, began=0.0, idle_since=None, now=NOW + 0.5, until=NOW + 0.5):
    asked = [each.at for each in seconds if each.asked]
    since = idle_since if idle_since is not None else (max(asked) if asked else began)
    return Heard(seconds, now, began, until, since)


def run(kind, first, last):
    """The same in each second, as many seconds before now as said."""
    return [replace(kind, at=NOW - back) for back in range(first, last - 1, -1)]


def standing(replicas, *, there=None, for_s=10_000.0):
    return Standing(replicas, replicas if there is None else there, for_s)


def after(replicas, limits, told, **more):
    decided = decide(standing(replicas, **more), limits, told, PACE)
    return None if decided is None else decided.after


def test_a_runtime_is_added_once_requests_have_waited_too_long_for_as_long_as_said():
    assert after(1, LIMITS, heard(*run(BUSY, 1, 0))) is None
    assert after(1, LIMITS, heard(*run(BUSY, 2, 0))) == 2
    decided = decide(standing(1), LIMITS, heard(*run(BUSY, 2, 0)), PACE)
    assert decided is not None
    assert decided.why == (
        "queue: expected at most 0.05 s and no refusals; found 0.2 s and 0 refused, for 3 s"
    )
    assert decided.measured["queue_mean_s"] == 0.2


def test_refusals_count_as_a_queue_that_is_too_long():
    refusing = replace(QUIET, refused=1)
    assert after(1, LIMITS, heard(*run(refusing, 2, 0))) == 2


def test_one_good_second_begins_the_count_anew():
    seconds = [*run(BUSY, 4, 3), *run(QUIET, 2, 2), *run(BUSY, 1, 0)]
    assert after(1, LIMITS, heard(*seconds)) is None


def test_what_was_heard_long_ago_adds_nothing():
    assert after(1, LIMITS, heard(*run(BUSY, 9, 5))) is None


def test_nothing_is_added_beyond_the_most_nor_while_one_is_on_its_way():
    assert after(4, LIMITS, heard(*run(BUSY, 9, 0))) is None
    assert after(2, LIMITS, heard(*run(BUSY, 9, 0)), there=1) is None


def test_one_ends_once_one_less_would_have_done_for_as_long_as_said():
    calm = heard(*run(QUIET, 299, 0))
    assert after(3, LIMITS, calm) == 2
    assert after(1, LIMITS, calm) is None
    assert after(3, LIMITS, calm, for_s=299) is None
    assert after(3, LIMITS, calm, there=2) is None
    assert after(3, LIMITS, replace(calm, began=NOW - 100.0)) is None
    nearly = replace(QUIET, queued_s=2.4)  # 24 ms each: fine for two, not for one
    assert after(2, LIMITS, heard(*run(nearly, 299, 0))) is None


def test_why_one_ends_tells_of_the_calm_time_alone():
    told = [*run(BUSY, 310, 305), *run(QUIET, 299, 0)]
    decided = decide(standing(3), LIMITS, heard(*told), PACE)
    assert decided is not None
    assert decided.why == "calm: found at most 0.001 s in the queue for 300 s"
    assert decided.measured["queue_mean_s"] == 0.001


def test_a_moment_of_too_much_keeps_all():
    told = [*run(QUIET, 299, 101), *run(BUSY, 100, 100), *run(QUIET, 99, 0)]
    assert after(3, LIMITS, heard(*told)) is None


def test_the_last_one_ends_once_nobody_asked_for_as_long_as_said():
    assert after(1, TO_NONE, heard(idle_since=NOW - 899.0)) is None
    assert after(2, TO_NONE, heard(idle_since=NOW - 901.0)) == 0
    assert after(1, TO_NONE, heard(idle_since=NOW - 901.0), for_s=100) is None
    assert after(1, LIMITS, heard(idle_since=0.0)) is None


def test_time_of_which_gateways_told_nothing_is_neither_calm_nor_idle():
    calm = heard(*run(QUIET, 350, 60))
    assert after(3, LIMITS, replace(calm, until=NOW - 59.0)) == 2
    assert after(3, LIMITS, replace(calm, until=NOW - 59.0, began=NOW - 320.0)) is None
    assert after(1, TO_NONE, heard(idle_since=NOW - 950.0, until=NOW - 60.0)) is None
    assert after(1, TO_NONE, heard(idle_since=NOW - 950.0, until=NOW - 40.0)) == 0


def test_a_waiting_request_wakes_a_group_at_once():
    waiting = Second(NOW, waiting=1)
    assert after(0, TO_NONE, heard(waiting), for_s=0) == 1
    assert after(0, TO_NONE, heard(replace(waiting, at=NOW - 60)), for_s=0) is None
    assert after(0, TO_NONE, heard(), for_s=0) is None


def test_a_request_that_was_answered_on_the_way_down_wakes_it_too():
    assert after(0, TO_NONE, heard(replace(QUIET, at=NOW)), for_s=0) == 1


@pytest.mark.parametrize(
    ("replicas", "limits", "expected"), [(6, LIMITS, 4), (1, replace(LIMITS, min=2), 2)]
)
def test_other_limits_hold_at_once(replicas, limits, expected):
    decided = decide(standing(replicas, for_s=0), limits, heard(), PACE)
    assert decided is not None
    assert (decided.after, decided.why.split(":")[0]) == (expected, "declared")


SECONDS = st.lists(
    st.builds(
        Second,
        st.integers(NOW - 400, NOW),
        st.integers(0, 1000),
        st.integers(0, 5),
        st.integers(0, 1000),
        st.floats(0, 100),
        st.floats(0, 1),
        st.integers(0, 3),
    ),
    max_size=40,
    unique_by=lambda each: each.at,
).map(lambda found: sorted(found, key=lambda each: each.at))


STANDING = st.builds(Standing, st.integers(0, 100), st.integers(0, 100), st.floats(0, 1e5))
LIMITED = st.builds(
    lambda low, more: Limits(low, max(low + more, 1), 0.05, idle_s=900),
    st.integers(0, 5),
    st.integers(0, 8),
)


@given(STANDING, LIMITED, SECONDS)
def test_whatever_is_heard_the_number_stays_within_its_limits(found, limits, seconds):
    decided = decide(found, limits, heard(*seconds), PACE)
    replicas = found.replicas
    if decided is None:
        assert limits.min <= replicas <= limits.max
        return
    assert limits.min <= decided.after <= limits.max
    assert decided.after != replicas
    assert decided.why
    if limits.min <= replicas <= limits.max:
        assert decided.after in {0, replicas - 1, replicas + 1}
        assert decided.after > 0 or not any(
            each.at > NOW - 900 and each.asked for each in seconds
        )


@given(SECONDS, st.integers(1, 4))
def test_without_a_declaration_no_decision_is_made_twice_by_the_same_evidence(
    seconds, replicas
):
    """Who decided sees the number changed a moment ago: nothing more follows from the past."""
    told = heard(*seconds)
    decided = decide(standing(replicas), TO_NONE, told, PACE)
    if decided is None:
        return
    again = decide(standing(decided.after, there=replicas, for_s=0), TO_NONE, told, PACE)
    assert again is None or (replicas > decided.after > 0 and again.after == replicas)


def test_what_gateways_tell_of_a_second_adds_up():
    demand = Demand(began=0.0, keep_s=10)
    demand.take("m", Second(5, requests=10, answered=10, queued_s=1.0, queue_max_s=0.2))
    demand.take(
        "m",
        Second(5, requests=0, refused=1, answered=30, queued_s=1.0, queue_max_s=0.1, waiting=2),
    )
    [second] = demand.seen("m")
    assert (second.requests, second.refused, second.waiting) == (10, 1, 2)
    assert (second.queue_mean_s, second.queue_max_s) == (0.05, 0.2)
    assert (demand.seen("other"), demand.idle_since("other")) == ((), 0.0)


@given(st.lists(st.integers(0, 5), max_size=300), st.integers(1, 20))
def test_what_is_remembered_is_no_longer_than_said(steps, keep_s):
    demand, at = Demand(began=0.0, keep_s=keep_s), 0
    for step in steps:
        at += step
        demand.take("m", Second(at, requests=1))
        seen = demand.seen("m")
        assert seen[-1].at == at
        assert at - seen[0].at <= keep_s
        assert len({each.at for each in seen}) == len(seen)
        assert demand.idle_since("m") == at


def test_a_second_in_which_nobody_asked_is_no_request():
    demand = Demand(began=1.0, keep_s=10)
    demand.take("m", Second(5))
    assert demand.idle_since("m") == 1.0


def test_what_is_known_ends_with_the_gateway_that_is_silent_longest():
    demand = Demand(began=0.0, keep_s=10)
    assert demand.known_until(50.0) == 0.0  # nobody told anything
    demand.hear("a", 100.0)
    demand.hear("b", 104.0)
    assert (demand.began, demand.known_until(105.0)) == (104.0, 104.0)
    for at in range(105, 110):
        demand.hear("b", at)
        demand.hear("a", at)
    demand.hear("b", 112.0)
    assert (demand.began, demand.known_until(112.0)) == (104.0, 109.0)


def test_a_gap_begins_all_clocks_anew_and_who_never_comes_again_is_forgotten():
    demand = Demand(began=0.0, keep_s=10)
    demand.hear("a", 0.0)
    demand.take("m", Second(1, requests=1))
    demand.hear("a", 5.0)
    assert (demand.began, demand.idle_since("m")) == (0.0, 1)
    demand.hear("a", 10.1)
    assert (demand.began, demand.idle_since("m")) == (10.1, 10.1)
    for at in range(11, 700):
        demand.hear("b", at)
    assert demand.known_until(600.0) == 11.0  # `a` may be asked all the while
    assert demand.known_until(699.0) == 699.0
