"""What a step's answers come to: counts, latencies and scores of both versions, compared."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gyral.deployer.domain.rollouts import Arm, Measured
from gyral.modelling.columns import Floats
from gyral.modelling.sequences import (
    Interval,
    Moments,
    mean_sequence,
    quantile_ratio_lower_bound,
    rate_difference_sequence,
)

Measures = Mapping[str, float | int | None]

LATENCY_MIN_REQUESTS = 500
"""Fewer an arm say nothing about a p99."""
SCORE_MIN_BLOCKS = 100
"""Fewer say nothing about a mean: its bounds are asymptotic."""


@dataclass(frozen=True, slots=True)
class Observed:
    """All requests one version answered in a step."""

    rows: int
    failed_rows: int
    failed_requests: int
    latencies_us: Floats
    """One entry a request, shape (requests,)."""
    scores: Floats
    """One entry a request whose rows all have a score, shape (scored,)."""
    blocks: npt.NDArray[np.int64]
    """What each score depends on, shape (scored,)."""

    @property
    def arm(self) -> Arm:
        """The counts alone."""
        return Arm(
            rows=self.rows,
            requests=len(self.latencies_us),
            failed_rows=self.failed_rows,
            failed_requests=self.failed_requests,
        )


def compare(
    champion: Observed,
    candidate: Observed,
    *,
    paired: Floats | None,
    elapsed_s: float,
) -> tuple[Measured, Measures]:
    """Return what is judged, and what is told of it.

    Args:
        champion: what it answered in the step.
        candidate: what it answered.
        paired: differences of score on the same requests, one a block; None where no request
            was answered by both, so that the means are compared.
        elapsed_s: how long the step has taken.
    """
    p99_ratio = None
    arms = [each.latencies_us[each.latencies_us > 0] for each in (candidate, champion)]
    if min(map(len, arms)) >= LATENCY_MIN_REQUESTS:
        p99_ratio = quantile_ratio_lower_bound(*arms)
    shift = _unpaired(candidate, champion) if paired is None else _bounds(paired, 0.05)
    measured = Measured(champion.arm, candidate.arm, p99_ratio, shift, elapsed_s)
    return measured, _told(measured, candidate, champion, arms)


def _bounds(values: Floats, alpha: float) -> Interval | None:
    if len(values) < SCORE_MIN_BLOCKS:
        return None
    return mean_sequence(Moments.of(values), alpha=alpha)


def _unpaired(candidate: Observed, champion: Observed) -> Interval | None:
    """Bound the difference of two means, each at half of alpha: on the safe side."""
    one, other = (_bounds(_block_means(each), 0.025) for each in (candidate, champion))
    if one is None or other is None:
        return None
    return Interval(one.lower - other.upper, one.upper - other.lower)


def _block_means(observed: Observed) -> Floats:
    _, block = np.unique(observed.blocks, return_inverse=True)
    means: Floats = np.bincount(block, observed.scores) / np.bincount(block)
    return means


def _told(
    measured: Measured, candidate: Observed, champion: Observed, latencies: list[Floats]
) -> Measures:
    one, other = measured.candidate, measured.champion
    more = rate_difference_sequence(
        (one.failed_requests, one.requests), (other.failed_requests, other.requests)
    )
    shift = measured.score_shift
    return {
        "champion_rows": champion.rows,
        "candidate_rows": candidate.rows,
        "champion_failed_rows": champion.failed_rows,
        "candidate_failed_rows": candidate.failed_rows,
        "error_rate_difference_lower": more.lower,
        "error_rate_difference_upper": more.upper,
        "champion_p99_us": _p99(latencies[1]),
        "candidate_p99_us": _p99(latencies[0]),
        "p99_ratio_lower": measured.p99_ratio_lower,
        "champion_mean_score": _mean(champion.scores),
        "candidate_mean_score": _mean(candidate.scores),
        "score_shift_lower": shift.lower if shift else None,
        "score_shift_upper": shift.upper if shift else None,
    }


def _p99(latencies_us: Floats) -> float | None:
    return float(np.quantile(latencies_us, 0.99)) if len(latencies_us) else None


def _mean(scores: Floats) -> float | None:
    return float(scores.mean()) if len(scores) else None
