"""Which event times a run learns from and is judged on: whole blocks, never random rows."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from gyral.contracts.specs.document import duration_seconds
from gyral.contracts.specs.model import ModelBody
from gyral.modelling.columns import Ints

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


class SplitError(ValueError):
    """The declared durations leave nothing to learn from or to judge on."""


@dataclass(frozen=True, slots=True)
class Split:
    """Half-open ranges of event time in microseconds UTC.

    Training rows lie in [train_start, trained_until) with a label known by `trained_until`; the
    window's rows lie in [window_start, window_end) with a label known by `as_of`.
    """

    as_of: int
    block: int
    horizon: int
    train_start: int
    trained_until: int
    window_start: int
    window_end: int
    notes: tuple[str, ...] = ()

    def not_before(self, champion_trained_until: int) -> "Split":
        """Return the split whose window starts after a champion's training, by whole blocks."""
        if champion_trained_until <= self.window_start:
            return self
        start = min(_ceil(champion_trained_until, self.block), self.window_end)
        note = (
            "window cut: the champion was trained until "
            f"{moment(champion_trained_until).isoformat()}, after the window's start "
            f"{moment(self.window_start).isoformat()}"
        )
        return replace(self, window_start=start, notes=(*self.notes, note))


def split(spec: ModelBody, as_of: datetime) -> Split:
    """Place training and window so that every label of the window was known by `as_of`.

    The window is the newest `train.holdout` of event time whose label horizon has passed.

    Raises:
        SplitError: the holdout is shorter than a block.
    """
    block = microseconds(spec.monitor.block)
    horizon = microseconds(spec.label.horizon)
    holdout = microseconds(spec.train.holdout)
    if block <= 0 or holdout < block:
        raise SplitError(
            f"train.holdout: expected at least one monitor.block of {spec.monitor.block}; "
            f"found {spec.train.holdout}"
        )
    window_end = (micros(as_of) - horizon) // block * block
    window_start = (window_end - holdout) // block * block
    kept = None if spec.train.window == "all" else microseconds(spec.train.window)
    return Split(
        as_of=micros(as_of),
        block=block,
        horizon=horizon,
        train_start=0 if kept is None else window_start - kept,
        trained_until=window_start,
        window_start=window_start,
        window_end=window_end,
    )


def fold_of_blocks(blocks: Ints, folds: int) -> Ints:
    """Cut the blocks that have rows into folds of consecutive blocks, in order of time.

    Neighbouring blocks share their weather and their evening: dealt out in turn, each fold
    would be predicted from next door and look better than any block of the future can.

    Args:
        blocks: block of each row, shape (n,).
        folds: at least 2.

    Returns:
        The fold of each row, shape (n,); all rows of a block share one.

    Raises:
        SplitError: there are fewer blocks than folds.
    """
    unique, inverse = np.unique(blocks, return_inverse=True)
    if len(unique) < folds:
        raise SplitError(
            f"train.folds: expected at least {folds} blocks of training rows; "
            f"found {len(unique)}; ask for fewer folds or shorter blocks"
        )
    cut: Ints = inverse * folds // len(unique)
    return cut


def microseconds(duration: str) -> int:
    """Return a declared duration in microseconds."""
    return round(duration_seconds(duration) * 1e6)


def micros(at: datetime) -> int:
    """Return a moment in microseconds since 1970 UTC."""
    return (at - _EPOCH) // _US


def moment(at_us: int) -> datetime:
    """Return microseconds since 1970 UTC as a moment."""
    return _EPOCH + at_us * _US


def _ceil(at_us: int, block: int) -> int:
    return -(-at_us // block) * block
