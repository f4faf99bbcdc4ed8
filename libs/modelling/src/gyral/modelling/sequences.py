"""Bounds that a canary may be stopped by: on a mean and a rate at any time, on a p99 ratio.

A test repeated after each batch errs far more often than it says; a confidence sequence holds
at all times at once. The bound on the p99 ratio holds for one look: its caller takes few, and
divides its alpha by their number.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np

from gyral.modelling.columns import Floats

TIGHTEST_AT = 0.05
"""The rho of the confidence sequence: it is tightest after some thousand observations."""

_BISECTIONS = 60


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and sum of squared deviations; adding two gives those of all their values.

    Source: T. Chan, G. Golub, R. LeVeque, The American Statistician 37 (1983), 242-247.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: Floats) -> Self:
        """Measure values, shape (n,), all finite."""
        if not len(values):
            return cls()
        mean = float(values.mean())
        return cls(len(values), mean, float(((values - mean) ** 2).sum()))

    def __add__(self, other: Self) -> Self:
        """Merge with the moments of other values."""
        count = self.count + other.count
        if not count:
            return self
        step = other.mean - self.mean
        return type(self)(
            count,
            self.mean + step * other.count / count,
            self.squares + other.squares + step * step * self.count * other.count / count,
        )

    @property
    def sd(self) -> float:
        """Standard deviation of the values, divided by their number; 0 when there are none."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def to_json(self) -> str:
        """Write the state for a store."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a state back; raises msgspec.ValidationError when it is another thing."""
        return msgspec.json.decode(text, type=cls)


@dataclass(frozen=True, slots=True)
class Interval:
    """A lower and an upper bound, each at the alpha asked for by itself."""

    lower: float
    upper: float


def mean_sequence(seen: Moments, *, alpha: float = 0.05, rho: float = TIGHTEST_AT) -> Interval:
    """Bound a mean from each side, at every sample size at once.

    mean +- sd sqrt((n r^2 + 1) / (n r)^2 * 2 ln(sqrt(n r^2 + 1) / (2 alpha) + 1)), asymptotic:
    let some hundred values pass before deciding. Values must be independent: of flights of one
    day, feed the mean of the day.

    Args:
        seen: moments of the values so far, such as paired differences of loss.
        alpha: chance that one bound is ever wrong, in (0, 1).
        rho: where the bound is tightest, > 0; fixed before the first value.

    Returns:
        The bounds; infinite before the second value.

    Source: I. Waudby-Smith and others, Ann. Statist. 52 (2024), arXiv 2103.06476, one-sided.
    """
    if seen.count < 2:  # noqa: PLR2004 - a spread needs two
        return Interval(-math.inf, math.inf)
    scaled = seen.count * rho * rho + 1.0
    spread = scaled / (seen.count * rho) ** 2 * 2.0
    half = seen.sd * math.sqrt(spread * math.log(math.sqrt(scaled) / (2.0 * alpha) + 1.0))
    return Interval(seen.mean - half, seen.mean + half)


def rate_sequence(events: int, trials: int, *, alpha: float = 0.05) -> Interval:
    """Bound a rate from both sides, at every number of trials at once.

    These are the rates whose likelihood a mixture of all exceeds less than 1 / alpha times; by
    Ville's inequality the true one ever leaves them with chance alpha at most.

    Args:
        events: those among the trials, from 0 to `trials`.
        trials: number of independent trials, >= 0.
        alpha: chance that the interval is ever wrong, both sides together, in (0, 1).

    Raises:
        ValueError: the counts are impossible.

    Source: H. Robbins, Ann. Math. Statist. 41 (1970), 1397-1409 (mixture by Beta(1/2, 1/2)).
    """
    if not 0 <= events <= trials:
        raise ValueError(f"events: expected 0 to {trials}, found {events}")
    misses = trials - events
    mixture = math.lgamma(events + 0.5) + math.lgamma(misses + 0.5) - math.lgamma(trials + 1)
    # The mixing density is Beta(1/2, 1/2): it expects rare events, as errors are.
    mixture -= math.log(math.pi)

    def excluded(rate: float) -> bool:
        likelihood = _log_power(rate, events) + _log_power(1.0 - rate, misses)
        return mixture - likelihood >= -math.log(alpha)

    best = events / trials if trials else 0.5
    return Interval(_edge(excluded, best, 0.0), _edge(excluded, best, 1.0))


def rate_difference_sequence(
    candidate: tuple[int, int], champion: tuple[int, int], *, alpha: float = 0.05
) -> Interval:
    """Bound the candidate's rate minus the champion's, at every time at once.

    Each arm has its own interval at half of alpha, so the bound is on the safe side.

    Args:
        candidate: its events and trials.
        champion: its events and trials.
        alpha: chance that the interval is ever wrong, in (0, 1).

    Raises:
        ValueError: the counts are impossible.
    """
    first = rate_sequence(*candidate, alpha=alpha / 2.0)
    second = rate_sequence(*champion, alpha=alpha / 2.0)
    return Interval(first.lower - second.upper, first.upper - second.lower)


def quantile_ratio_lower_bound(
    candidate: Floats, champion: Floats, *, quantile: float = 0.99, alpha: float = 0.05
) -> float:
    """Bound from below how many times the candidate's quantile is the champion's.

    The lower bound of one order statistic over the upper bound of another, each at half of
    alpha, whatever the distributions; the values must be independent and the look a single one.

    Args:
        candidate: latencies > 0, shape (n,).
        champion: latencies > 0, shape (m,).
        quantile: the one compared, in (0, 1).
        alpha: chance that the bound is above the true ratio, in (0, 1).

    Returns:
        The bound; 0 when an arm is too short to say anything, which for the p99 at alpha .05
        means fewer than 368 values of the champion.

    Source: H. David, H. Nagaraja, Order Statistics (2003), 7.1.
    """
    below = _binomial_cdf(len(candidate), quantile)
    # X_(k) lies above the quantile with chance P(Binomial <= k - 1): take the largest safe k.
    k = int(np.searchsorted(below, alpha / 2.0, side="right"))
    # X_(j) lies below it with chance 1 - P(Binomial <= j - 1): take the smallest safe j.
    j = 1 + int(
        np.searchsorted(_binomial_cdf(len(champion), quantile), 1.0 - alpha / 2.0, side="left")
    )
    if k < 1 or j > len(champion):
        return 0.0
    return float(np.partition(candidate, k - 1)[k - 1] / np.partition(champion, j - 1)[j - 1])


def _log_power(base: float, exponent: int) -> float:
    if not exponent:
        return 0.0
    return exponent * math.log(base) if base > 0.0 else -math.inf


def _edge(excluded: Callable[[float], bool], inside: float, outside: float) -> float:
    if not excluded(outside):
        return outside
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2.0
        if excluded(middle):
            outside = middle
        else:
            inside = middle
    return outside


def _binomial_cdf(trials: int, chance: float) -> Floats:
    """P(Binomial <= i) for i = 0..trials, shape (trials + 1,)."""
    counts = np.arange(1, trials + 1)
    odds = math.log(chance) - math.log1p(-chance)
    steps = np.log(trials + 1 - counts) - np.log(counts) + odds
    logarithms = trials * math.log1p(-chance) + np.concatenate([[0.0], np.cumsum(steps)])
    cdf: Floats = np.minimum(np.cumsum(np.exp(logarithms)), 1.0)
    return cdf
