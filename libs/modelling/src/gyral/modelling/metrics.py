"""How good probabilities are: proper scores row by row, ranking, calibration."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from gyral.modelling.columns import Bools, Floats

PROBABILITY_FLOOR = 1e-7
"""Probabilities are cut to [floor, 1 - floor] before a logarithm; float32 resolves no less."""


def log_losses(positive: Bools, probability: Floats) -> Floats:
    """Score each row by minus the log of the probability given to what happened, in nats.

    Args:
        positive: what happened, shape (n,).
        probability: predicted chance of positive, shape (n,), in [0, 1].
    """
    cut = _cut(probability)
    losses: Floats = -np.log(np.where(positive, cut, 1.0 - cut))
    return losses


def entropies(probability: Floats) -> Floats:
    """Give the log-loss that each row would have on average if its probability were right.

    H(p) = -p ln p - (1 - p) ln(1 - p), in nats, shape (n,). The mean of log-loss minus entropy
    is near zero for a calibrated model however hard the week, and grows as a model goes wrong.

    Source: D. Spiegelhalter, Statistics in Medicine 5 (1986), 421-433.
    """
    cut = _cut(probability)
    entropy: Floats = -cut * np.log(cut) - (1.0 - cut) * np.log1p(-cut)
    return entropy


def brier_scores(positive: Bools, probability: Floats) -> Floats:
    """Square each row's distance between probability and outcome, shape (n,), in [0, 1]."""
    scores: Floats = (probability.astype(np.float64) - positive) ** 2
    return scores


def roc_auc(positive: Bools, probability: Floats) -> float:
    """Chance that a random positive is ranked above a random negative, ties counting half.

    Returns:
        The area in [0, 1], or NaN when one of the classes is absent.

    Source: J. Hanley, B. McNeil, Radiology 143 (1982), 29-36 (the Mann-Whitney form).
    """
    positives = int(np.count_nonzero(positive))
    negatives = len(positive) - positives
    if not positives or not negatives:
        return float("nan")
    above = _mid_ranks(probability)[positive].sum() - positives * (positives + 1) / 2.0
    return float(above / (positives * negatives))


def expected_calibration_error(
    positive: Bools, probability: Floats, *, bins: int = 15
) -> float:
    """Mean distance between predicted and observed rates over bins of equal mass.

    Rows of one probability share a bin, so the order of rows never matters; with ties the bins
    are as equal as that allows.

    Returns:
        The error in [0, 1], or NaN without rows.

    Source: K. Nguyen, B. O'Connor, EMNLP 2015 (adaptive bins).
    """
    rows = len(probability)
    if not rows:
        return float("nan")
    at = np.minimum(((_mid_ranks(probability) - 0.5) * bins / rows).astype(np.int64), bins - 1)
    predicted = np.bincount(at, probability, minlength=bins)
    observed = np.bincount(at, positive, minlength=bins)
    return float(np.abs(predicted - observed).sum() / rows)


@dataclass(frozen=True, slots=True)
class ScoreSums:
    """Sums over rows from which mean scores follow; adding two gives that of all their rows."""

    rows: int = 0
    positives: int = 0
    probability: float = 0.0
    log_loss: float = 0.0
    entropy: float = 0.0
    brier: float = 0.0

    @classmethod
    def of(cls, positive: Bools, probability: Floats) -> Self:
        """Sum the scores of n rows, both arguments of shape (n,)."""
        return cls(
            rows=len(positive),
            positives=int(np.count_nonzero(positive)),
            probability=float(probability.sum(dtype=np.float64)),
            log_loss=float(log_losses(positive, probability).sum()),
            entropy=float(entropies(probability).sum()),
            brier=float(brier_scores(positive, probability).sum()),
        )

    def __add__(self, other: Self) -> Self:
        """Merge with the sums of other rows."""
        return type(self)(
            self.rows + other.rows,
            self.positives + other.positives,
            self.probability + other.probability,
            self.log_loss + other.log_loss,
            self.entropy + other.entropy,
            self.brier + other.brier,
        )

    @property
    def mean_log_loss(self) -> float:
        """Nats per row, NaN without rows."""
        return self._mean(self.log_loss)

    @property
    def mean_entropy(self) -> float:
        """Nats per row that the model itself expects, NaN without rows."""
        return self._mean(self.entropy)

    @property
    def mean_excess(self) -> float:
        """Log-loss beyond what the model expects of itself, nats per row, NaN without rows."""
        return self._mean(self.log_loss - self.entropy)

    @property
    def mean_brier(self) -> float:
        """Squared error per row, NaN without rows."""
        return self._mean(self.brier)

    @property
    def bias(self) -> float:
        """Mean probability minus share of positives, NaN without rows."""
        return self._mean(self.probability - self.positives)

    def _mean(self, total: float) -> float:
        return total / self.rows if self.rows else float("nan")


def _cut(probability: Floats) -> Floats:
    cut: Floats = np.clip(
        probability.astype(np.float64), PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR
    )
    return cut


def _mid_ranks(values: Floats) -> Floats:
    """Ranks from 1, the mean rank where values tie, shape (n,)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = (ends - (counts - 1) / 2.0)[inverse]
    return ranks
