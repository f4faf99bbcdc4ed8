"""What happened in a replay, in the platform's own words and the replay's event time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gyral.client.replay.variants import Variant


@dataclass(frozen=True, slots=True)
class Trigger:
    """A retraining that was asked for, and what became of it."""

    variant: Variant
    request_id: str
    as_of: datetime
    cause: str
    outcome: str
    """suppressed, failed, cancelled, rejected, or approved."""
    evidence: Mapping[str, float | str | None]
    reason: str | None = None
    run_id: str | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """One step of one version's rollout, at the end of the day it was seen on."""

    variant: Variant
    version: int
    stage: str
    event_time: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Closing:
    """A request that came as far as its rollout's first step."""

    run_id: str
    trained_at: datetime
    """When its training ended."""
    seen_to_rollout_s: float
    """From the replay seeing the request to its seeing the rollout in that step."""


@dataclass(slots=True)
class History:
    """Everything that is worth a line in the report."""

    triggers: list[Trigger] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    closings: list[Closing] = field(default_factory=list)
