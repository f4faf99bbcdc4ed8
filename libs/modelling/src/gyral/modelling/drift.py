"""One alarm per window, not one per feature, calibrated on how much blocks differ by nature."""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.random import Generator

from gyral.modelling.columns import Floats, Ints
from gyral.modelling.histograms import ReferenceBins, js_distances

DRAWS = 500
"""Reference windows drawn to calibrate with."""

QUANTILE = 0.995
"""Share of reference windows that stay below the limit."""

SD_FLOOR = 0.005
"""Smallest spread of a distance: a feature that never moved would alarm at its first stir."""


@dataclass(frozen=True, slots=True)
class DriftEvidence:
    """What one window shows: each feature's distance and how unusual it is, and the verdict.

    `feature` is the one with the largest z; `max_z` is compared with `limit`.
    """

    distances: dict[str, float]
    z: dict[str, float]
    feature: str
    max_z: float
    limit: float

    @property
    def drifted(self) -> bool:
        """Tell whether the window is further off than nearly all reference windows."""
        return self.max_z > self.limit


class DriftCalibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far windows of the reference lie from the rest of it, per feature.

    `means` and `sds` are of the Jensen-Shannon distances, shape (features,); `limit` is the
    quantile of the largest z among features; `fewest_rows` is the smallest reference window: a
    smaller live window is noisier than what was calibrated.
    """

    means: tuple[float, ...]
    sds: tuple[float, ...]
    limit: float
    fewest_rows: int
    window_blocks: int = 1

    def z(self, distances: Floats) -> Floats:
        """Standardise distances, shape (..., features)."""
        z: Floats = (distances - np.array(self.means)) / np.array(self.sds)
        return z

    def max_z(self, distances: Floats) -> Floats:
        """Take the largest z among the features, shape (...)."""
        largest: Floats = self.z(distances).max(axis=-1)
        return largest

    def judge(self, bins: ReferenceBins, reference: Ints, live: Ints) -> DriftEvidence:
        """Compare a live window with the whole reference.

        Args:
            bins: those the calibration was made with.
            reference: counts of all reference rows, shape (cells,).
            live: counts of the window, shape (cells,).

        Raises:
            ValueError: one of the two holds no rows.
        """
        distances = bins.js_distances(reference, live)
        z = self.z(distances)
        worst = int(np.argmax(z))
        return DriftEvidence(
            dict(zip(bins.names, distances.tolist(), strict=True)),
            dict(zip(bins.names, z.tolist(), strict=True)),
            bins.names[worst],
            float(z[worst]),
            self.limit,
        )


def calibrate_drift(
    counts: Ints,
    offsets: Ints,
    rng: Generator,
    *,
    window_blocks: int = 1,
    draws: int = DRAWS,
    quantile: float = QUANTILE,
) -> DriftCalibration:
    """Draw windows of whole blocks from the reference and measure each against the rest of it.

    A drawn block is left out of what it is compared with, as a live window never was part of
    the reference; otherwise a short reference would look calmer than it is.

    Args:
        counts: rows per block and cell, shape (blocks, cells).
        offsets: first cell of each feature, shape (features,).
        rng: seeded by the caller.
        window_blocks: blocks of a live window, >= 1.
        draws: windows drawn, with replacement of blocks.
        quantile: share of windows that stay below the limit, in (0, 1).

    Raises:
        ValueError: there are not more blocks with rows than a window has.
    """
    first = slice(0, int(offsets[1]) if len(offsets) > 1 else None)
    filled = counts[counts[:, first].sum(axis=1) > 0].astype(np.float64)
    if not 1 <= window_blocks < len(filled):
        raise ValueError(
            f"window_blocks: expected 1 to {len(filled) - 1}, fewer than the {len(filled)} "
            f"reference blocks with rows, found {window_blocks}"
        )
    shares = np.full(len(filled), 1.0 / len(filled))
    drawn = rng.multinomial(window_blocks, shares, size=draws).astype(np.float64)
    windows = drawn @ filled
    rest = np.minimum(drawn, 1.0) @ -filled + filled.sum(axis=0)
    distances = js_distances(rest, windows, offsets)
    means, sds = distances.mean(axis=0), np.maximum(distances.std(axis=0, ddof=1), SD_FLOOR)
    return DriftCalibration(
        means=tuple(means.tolist()),
        sds=tuple(sds.tolist()),
        limit=float(np.quantile(((distances - means) / sds).max(axis=1), quantile)),
        fewest_rows=int(windows[:, first].sum(axis=1).min()),
        window_blocks=window_blocks,
    )
