"""How long the loop takes to close, the training itself apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from gyral.client.replay.history import Closing

CLOSING = (
    "from the replay seeing a request to its seeing the rollout's first step, the training "
    "apart; versions refused before that step are left out"
)
TRAINING = "from a worker beginning a run's last attempt to its end, for the same requests"


@dataclass(frozen=True, slots=True)
class Closed:
    """One turn of the loop, in seconds."""

    closing_s: float
    training_s: float


def closed(closings: Sequence[Closing], began: Mapping[str, datetime]) -> Sequence[Closed]:
    """Take each training out of the time its request took.

    Args:
        closings: requests that came as far as a rollout.
        began: run to when its last attempt began; one that nobody told of is left out.
    """
    found = []
    for each in closings:
        if each.run_id in began:
            training_s = (each.trained_at - began[each.run_id]).total_seconds()
            found.append(Closed(max(0.0, each.seen_to_rollout_s - training_s), training_s))
    return found


def summed_up(what: str, seconds: Sequence[float]) -> Mapping[str, str | float | None]:
    """Return what some durations are, with their median and the longest."""
    return {
        "what": what,
        "p50": median(seconds) if seconds else None,
        "max": max(seconds, default=None),
    }
