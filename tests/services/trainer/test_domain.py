"""Admission, splits and the run's states, by values worked by hand and by law."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.contracts.training import Cause, Suppression
from gyral.trainer.domain.admission import Admitted, InFlight, Known, Suppressed, admit
from gyral.trainer.domain.runs import (
    OPEN,
    IllegalMoveError,
    Move,
    State,
    after,
    stays_in_flight,
)
from gyral.trainer.domain.splits import SplitError, fold_of_blocks, micros, moment, split

from .conftest import AS_OF, model_body

DAY = timedelta(days=1)
RUN = "11111111-1111-1111-1111-111111111111"


def known(
    *,
    declared: bool = True,
    missing_streams: tuple[str, ...] = (),
    in_flight: InFlight | None = None,
    last_admitted: datetime | None = None,
) -> Known:
    return Known(declared, 14 * DAY, missing_streams, in_flight, last_admitted)


def why(decision: Admitted | Suppressed) -> Suppression | None:
    return decision.why if isinstance(decision, Suppressed) else None


def test_the_first_request_of_a_model_is_admitted():
    assert admit(Cause.EXCESS_LOSS, AS_OF, known()) == Admitted()


def test_the_cooldown_ends_exactly_its_length_after_the_last_admitted_request():
    state = known(last_admitted=AS_OF)
    early = AS_OF + 14 * DAY - timedelta(microseconds=1)
    refused = admit(Cause.CUSUM, early, state)
    assert isinstance(refused, Suppressed)
    assert refused.why is Suppression.COOLDOWN
    assert "+00:00" not in refused.detail
    assert refused.detail.endswith("Z on")
    assert admit(Cause.CUSUM, AS_OF + 14 * DAY, state) == Admitted()


@pytest.mark.parametrize(
    "cause", [Cause.BOOTSTRAP, Cause.MANUAL, Cause.CODE, Cause.STALE_VERDICT]
)
def test_decisions_skip_the_cooldown_but_not_what_is_in_flight(cause):
    assert admit(cause, AS_OF, known(last_admitted=AS_OF)) == Admitted()
    busy = known(in_flight=InFlight(RUN, succeeded=False))
    assert why(admit(cause, AS_OF, busy)) is Suppression.IN_FLIGHT


def test_a_request_for_an_unknown_model_is_suppressed():
    assert why(admit(Cause.MANUAL, AS_OF, known(declared=False))) is Suppression.UNKNOWN_MODEL


def test_only_a_request_that_need_not_have_seen_data_is_suppressed_for_want_of_it():
    state = known(missing_streams=("ends",))
    refused = admit(Cause.MANUAL, AS_OF, state)
    assert refused == Suppressed(
        Suppression.NO_DATA, "no dataset was ever committed for stream ends"
    )
    assert admit(Cause.BOOTSTRAP, AS_OF, state) == Admitted()


def test_a_stale_verdict_may_overtake_the_rejection_it_comes_with():
    judged = known(in_flight=InFlight(RUN, succeeded=True))
    redo = admit(Cause.STALE_VERDICT, AS_OF, judged, redo_of=RUN)
    assert redo == Admitted(supersedes=RUN)
    of_another = admit(Cause.STALE_VERDICT, AS_OF, judged, redo_of=RUN.replace("1", "2"))
    assert why(of_another) is Suppression.IN_FLIGHT


def test_a_run_moves_only_forward():
    assert after(State.QUEUED, Move.START) is State.RUNNING
    assert after(State.RUNNING, Move.START) is State.RUNNING
    assert after(State.RUNNING, Move.SUCCEED) is State.SUCCEEDED
    for over in set(State) - OPEN:
        for move in Move:
            with pytest.raises(IllegalMoveError):
                after(over, move)


def test_only_a_success_stays_in_flight_when_a_run_is_over():
    assert [state for state in State if stays_in_flight(state)] == [
        State.QUEUED,
        State.RUNNING,
        State.SUCCEEDED,
    ]


def test_the_window_is_the_newest_holdout_whose_labels_are_all_due():
    ranges = split(model_body(), datetime(2026, 3, 3, 5, 30, tzinfo=UTC))
    assert moment(ranges.window_end) == datetime(2026, 3, 2, tzinfo=UTC)
    assert moment(ranges.window_start) == datetime(2026, 2, 16, tzinfo=UTC)
    assert ranges.trained_until == ranges.window_start
    assert ranges.train_start == 0


def test_a_training_window_reaches_back_from_the_cut_off():
    ranges = split(model_body(window="28d"), AS_OF)
    assert ranges.trained_until - ranges.train_start == 28 * 86_400_000_000


def test_the_window_is_cut_to_what_the_champion_has_not_seen():
    ranges = split(model_body(), AS_OF)
    seen = ranges.window_start + 36 * 3_600_000_000
    cut = ranges.not_before(seen)
    assert cut.window_start == ranges.window_start + 2 * ranges.block
    assert cut.trained_until == ranges.trained_until
    assert "window cut" in cut.notes[0]
    assert ranges.not_before(ranges.window_start) is ranges


def test_a_holdout_shorter_than_a_block_is_refused():
    with pytest.raises(
        SplitError, match=r"train\.holdout: expected at least one monitor\.block"
    ):
        split(model_body(holdout="6h"), AS_OF)


@given(
    at=st.integers(min_value=10**15, max_value=4 * 10**15),
    holdout=st.integers(min_value=1, max_value=400),
)
def test_no_label_of_the_window_comes_after_the_decision(at, holdout):
    ranges = split(model_body(holdout=f"{holdout}d"), moment(at))
    assert ranges.window_end + ranges.horizon <= at == micros(moment(at))
    assert ranges.trained_until <= ranges.window_start < ranges.window_end
    assert ranges.window_start % ranges.block == ranges.window_end % ranges.block == 0


@given(st.lists(st.integers(0, 40), min_size=1, max_size=200), st.integers(2, 5))
def test_a_block_is_never_split_between_folds(blocks, folds):
    ids = np.array(blocks, dtype=np.int64)
    if len(np.unique(ids)) < folds:
        with pytest.raises(SplitError, match=r"train\.folds"):
            fold_of_blocks(ids, folds)
        return
    dealt = fold_of_blocks(ids, folds)
    assert set(dealt.tolist()) == set(range(folds))
    assert np.all(np.diff(dealt[np.argsort(ids, kind="stable")]) >= 0)
    for block in np.unique(ids):
        assert len(set(dealt[ids == block].tolist())) == 1
