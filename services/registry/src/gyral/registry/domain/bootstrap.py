"""When a model without a champion asks for its first training."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Data:
    """How far a stream's table has come."""

    rows: int
    watermark: datetime
    """Up to which rows may be learned from: what an expectation holds back is none."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The latest bootstrap that was asked for and came to nothing, or is still under way."""

    as_of: datetime
    in_flight: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """What the model's spec says of its first training."""

    min_rows: int
    bootstrap_at: datetime | None
    retry_after: timedelta
    """Event time between a bootstrap that failed and the next one."""


def bootstrap_as_of(
    features: Data | None, labels: Data | None, asked: Asked | None, rules: Rules
) -> datetime | None:
    """Return the event time to train the first version as of, or None when it is too early.

    Both watermarks must have passed it, and the label table must hold `min_rows` rows.
    """
    if features is None or labels is None or labels.rows < rules.min_rows:
        return None
    known = min(features.watermark, labels.watermark)
    if asked is not None:
        if asked.in_flight or known < asked.as_of + rules.retry_after:
            return None
        return known
    if rules.bootstrap_at is None:
        return known
    return rules.bootstrap_at if known >= rules.bootstrap_at else None
