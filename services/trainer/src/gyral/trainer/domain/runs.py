"""The states of a run and the moves between them."""

from enum import StrEnum


class State(StrEnum):
    """Where a run is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Move(StrEnum):
    """What happens to a run."""

    START = "start"
    """A worker took it, for the first time or again after its lease was lost."""
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"


class IllegalMoveError(ValueError):
    """A run cannot make this move from where it is."""


_MOVES = {
    (State.QUEUED, Move.START): State.RUNNING,
    (State.RUNNING, Move.START): State.RUNNING,
    (State.RUNNING, Move.SUCCEED): State.SUCCEEDED,
    (State.RUNNING, Move.FAIL): State.FAILED,
    (State.QUEUED, Move.FAIL): State.FAILED,
    (State.QUEUED, Move.CANCEL): State.CANCELLED,
    (State.RUNNING, Move.CANCEL): State.CANCELLED,
}

OPEN = frozenset({State.QUEUED, State.RUNNING})
"""States in which the run itself is not over."""


def after(state: State, move: Move) -> State:
    """Return the state a run is in after a move.

    Raises:
        IllegalMoveError: the run is over, or is not where the move begins.
    """
    reached = _MOVES.get((state, move))
    if reached is None:
        raise IllegalMoveError(f"run: expected a state from which to {move}; found {state}")
    return reached


def stays_in_flight(state: State) -> bool:
    """Tell whether it bars other runs: a success does until its verdict or rollout ends."""
    return state in OPEN or state is State.SUCCEEDED
