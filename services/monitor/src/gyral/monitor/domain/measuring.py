"""What one closed block shows of its champion: losses, calibration, ranking, drift."""

import math
from dataclasses import dataclass

import numpy as np

from gyral.modelling import metrics
from gyral.modelling.columns import Bools, Floats, Ints
from gyral.modelling.drift import DriftEvidence
from gyral.modelling.metrics import ScoreSums
from gyral.modelling.profile import SCORE, BlockHistograms, ReferenceProfile


@dataclass(frozen=True, slots=True)
class Quality:
    """Scores over a block's labelled rows; None where there is nothing to compute it from."""

    rows: int
    labelled_rows: int
    superseded_rows: int
    mean_prediction: float | None
    """Over all rows, labelled or not."""
    base_rate: float | None
    log_loss: float | None
    entropy: float | None
    excess_loss: float | None
    brier: float | None
    ece: float | None
    auc: float | None


@dataclass(frozen=True, slots=True)
class Shift:
    """How unusual a block's inputs and scores are; None where too little is known to say."""

    features: DriftEvidence | None
    scores: DriftEvidence | None


def quality(
    probabilities: Floats, positive: Bools, labelled: Bools, superseded: Bools
) -> Quality:
    """Score the champion's rows of a block, all arguments of shape (n,)."""
    happened, predicted = positive[labelled], probabilities[labelled]
    sums = ScoreSums.of(happened, predicted)
    rows = len(probabilities)
    return Quality(
        rows=rows,
        labelled_rows=sums.rows,
        superseded_rows=int(np.count_nonzero(superseded)),
        mean_prediction=float(probabilities.mean()) if rows else None,
        base_rate=sums.positives / sums.rows if sums.rows else None,
        log_loss=_finite(sums.mean_log_loss),
        entropy=_finite(sums.mean_entropy),
        excess_loss=_finite(sums.mean_excess),
        brier=_finite(sums.mean_brier),
        ece=_finite(metrics.expected_calibration_error(happened, predicted)),
        auc=_finite(metrics.roc_auc(happened, predicted)),
    )


def shift(
    profile: ReferenceProfile | None, counts: Ints | None, probabilities: Floats
) -> Shift:
    """Compare a block's feature counts and probabilities with the champion's reference.

    Counts that are not of exactly these rows, as after a change of the block's length, say
    nothing.
    """
    if profile is None:
        return Shift(None, None)
    whole = counts is not None and _rows(profile.features, counts) == len(probabilities)
    features = _judged(profile.features, counts) if counts is not None and whole else None
    scores = profile.scores.bins.count({SCORE.name: probabilities})
    return Shift(features, _judged(profile.scores, scores))


def _judged(reference: BlockHistograms, counts: Ints) -> DriftEvidence | None:
    """Judge counts that hold at least as many rows as the smallest window calibrated with."""
    if reference.drift is None or not reference.bins.features:
        return None
    if _rows(reference, counts) < max(1, reference.drift.fewest_rows):
        return None
    return reference.judge(counts)


def _rows(reference: BlockHistograms, counts: Ints) -> int:
    """Return how many rows were counted: each has one cell of each feature."""
    features = reference.bins.features
    return int(counts[: features[0].size].sum()) if features else 0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
