"""The figures of a replay: scores a month and overall, and the gain with its bound."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gyral.client.replay.variants import Variant
from gyral.modelling.blocks import TooFewBlocksError, block_ids, paired_bounds
from gyral.modelling.columns import Bools, Floats, Ints
from gyral.modelling.metrics import expected_calibration_error, log_losses, roc_auc

WEEK_US = 7 * 86_400 * 1_000_000
SEED = 7
Scores = Mapping[Variant, float | None]


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows that every model answered and whose label is known; arrays of shape (n,)."""

    times_us: Ints
    positive: Bools
    probability: Mapping[Variant, Floats]

    @property
    def rows(self) -> int:
        """How many they are."""
        return len(self.times_us)


@dataclass(frozen=True, slots=True)
class Summary:
    """Scores over some rows, by model."""

    rows: int
    base_rate: float | None
    log_loss: Scores
    auc: Scores
    ece: Scores


@dataclass(frozen=True, slots=True)
class Gain:
    """How much lower one model's mean log-loss is than another's, in nats."""

    mean: float | None
    lower95: float | None
    """One-sided bound by the bootstrap over weeks; None with fewer than two weeks."""
    weeks: int


def scored(
    times_us: Ints,
    positive: Bools,
    labelled: Bools,
    probability: Mapping[Variant, Floats],
    rows: slice,
) -> Scored:
    """Return the rows that can be compared, of those replayed."""
    use = labelled.copy()
    use[: rows.start] = False
    use[rows.stop :] = False
    for each in probability.values():
        use &= ~np.isnan(each)
    return Scored(
        times_us[use],
        positive[use],
        {variant: values[use] for variant, values in probability.items()},
    )


def summary(rows: Scored) -> Summary:
    """Return every score of every model over these rows."""
    found = rows.probability.items()
    return Summary(
        rows.rows,
        _finite(float(rows.positive.mean())) if rows.rows else None,
        {
            variant: _finite(float(log_losses(rows.positive, values).mean()))
            if rows.rows
            else None
            for variant, values in found
        },
        {variant: _finite(roc_auc(rows.positive, values)) for variant, values in found},
        {
            variant: _finite(expected_calibration_error(rows.positive, values))
            for variant, values in found
        },
    )


def by_month(rows: Scored) -> Mapping[str, Summary]:
    """Return the scores of each calendar month of event time, in UTC."""
    months = rows.times_us.astype("datetime64[us]").astype("datetime64[M]")
    return {
        str(month): summary(
            Scored(
                rows.times_us[at],
                rows.positive[at],
                {variant: values[at] for variant, values in rows.probability.items()},
            )
        )
        for month in np.unique(months)
        for at in [np.flatnonzero(months == month)]
    }


def gain(rows: Scored, worse: Variant, better: Variant) -> Gain:
    """Bound mean log-loss(worse) - log-loss(better) over the same rows, weeks as the unit."""
    weeks = block_ids(rows.times_us, WEEK_US)
    first = log_losses(rows.positive, rows.probability[worse])
    second = log_losses(rows.positive, rows.probability[better])
    try:
        bounds = paired_bounds(first, second, weeks, np.random.default_rng(SEED))
    except TooFewBlocksError:
        mean = float((first - second).mean()) if rows.rows else None
        return Gain(mean, None, len(np.unique(weeks)))
    return Gain(bounds.mean, bounds.lower, bounds.blocks)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
