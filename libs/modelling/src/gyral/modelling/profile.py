"""What was normal when a model learned: the yardstick for windows of live rows."""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Literal, Self

import msgspec
import numpy as np
from msgspec import Meta
from numpy.random import Generator

from gyral.modelling.blocks import block_sums
from gyral.modelling.columns import Bools, Columns, Floats, Ints
from gyral.modelling.detectors import ExcessBaseline, LossBaseline
from gyral.modelling.documents import canonical_json, parse_json
from gyral.modelling.drift import DriftCalibration, DriftEvidence, calibrate_drift
from gyral.modelling.features import FeatureKind, FeatureSpec
from gyral.modelling.histograms import ReferenceBins, reference_bins
from gyral.modelling.metrics import entropies, log_losses

SCORE = FeatureSpec("score", FeatureKind.NUMERIC, nullable=False)
"""The model's own probability, binned like a feature."""


class BlockLoss(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Mean out-of-fold log-loss and entropy of one training block, in nats."""

    start_us: int
    rows: Annotated[int, Meta(ge=1)]
    log_loss: Annotated[float, Meta(ge=0)]
    entropy: Annotated[float, Meta(ge=0)]


class BlockHistograms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Counts per block over fixed bins, and how far blocks differ from one another by nature.

    `drift` is None when there were too few blocks to calibrate with: then nothing is judged.
    """

    bins: ReferenceBins
    starts_us: tuple[int, ...]
    counts: tuple[tuple[Annotated[int, Meta(ge=0)], ...], ...]
    drift: DriftCalibration | None

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.starts_us):
            found = len(self.counts)
            raise ValueError(f"counts: expected {len(self.starts_us)} blocks, found {found}")
        wrong = next((row for row in self.counts if len(row) != self.bins.size), None)
        if wrong is not None:
            raise ValueError(f"counts: expected {self.bins.size} cells, found {len(wrong)}")
        if self.drift is not None and len(self.drift.means) != len(self.bins.features):
            found, expected = len(self.drift.means), len(self.bins.features)
            raise ValueError(f"drift.means: expected {expected} features, found {found}")

    @classmethod
    def measure(
        cls,
        columns: Columns,
        features: Sequence[FeatureSpec],
        ids: Ints,
        block_us: int,
        rng: Generator,
        *,
        window_blocks: int = 1,
    ) -> Self:
        """Fix bins on these rows, count them per block and calibrate.

        Args:
            columns: raw columns of n rows.
            features: those to watch.
            ids: block of each row as `block_ids` numbers them, shape (n,).
            block_us: length of a block in microseconds.
            rng: seeded by the caller.
            window_blocks: blocks of a live window.

        Raises:
            ColumnError: a column is absent, of another length, or no number where one is due.
        """
        bins = reference_bins(columns, features)
        blocks, counts = bins.count_blocks(columns, ids)
        drift = (
            calibrate_drift(counts, bins.offsets, rng, window_blocks=window_blocks)
            if len(blocks) > window_blocks
            else None
        )
        rows = tuple(tuple(row) for row in counts.tolist())
        return cls(bins, tuple((blocks * block_us).tolist()), rows, drift)

    @cached_property
    def totals(self) -> Ints:
        """Counts of all reference rows, shape (cells,)."""
        counts = np.array(self.counts, dtype=np.int64).reshape(-1, self.bins.size)
        totals: Ints = counts.sum(axis=0)
        return totals

    def judge(self, live: Ints) -> DriftEvidence | None:
        """Compare the counts of a live window, shape (cells,); None without a calibration.

        Raises:
            ValueError: the window holds no rows.
        """
        if self.drift is None:
            return None
        return self.drift.judge(self.bins, self.totals, live)


class ReferenceProfile(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True
):
    """Reference of one training run: histograms of features and scores, out-of-fold losses."""

    schema: Literal["gyral.profile/1"] = "gyral.profile/1"
    model: str
    run_id: str
    cutoff_us: int
    block_us: Annotated[int, Meta(gt=0)]
    features: BlockHistograms
    scores: BlockHistograms
    block_losses: tuple[BlockLoss, ...]
    seed: int

    @cached_property
    def baseline(self) -> LossBaseline:
        """Normal mean and spread of block log-losses, for CUSUM.

        Raises:
            ValueError: fewer than two blocks were scored out of fold.
        """
        return LossBaseline.of([block.log_loss for block in self.block_losses])

    @cached_property
    def excess_baseline(self) -> ExcessBaseline:
        """Usual excess of log-loss over entropy a block, for excess loss; none when unknown."""
        return ExcessBaseline.of(
            [block.log_loss - block.entropy for block in self.block_losses]
        )

    def to_json(self) -> bytes:
        """Write the canonical JSON."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read a profile; raises DocumentError naming field, expected and found."""
        return parse_json(text, cls, "profile.json")


def block_losses(
    ids: Ints, block_us: int, positive: Bools, probability: Floats
) -> tuple[BlockLoss, ...]:
    """Average out-of-fold losses per block.

    Args:
        ids: block of each row as `block_ids` numbers them, shape (n,).
        block_us: length of a block in microseconds.
        positive: what happened, shape (n,).
        probability: predicted by a model that did not learn from the row, shape (n,).
    """
    losses = block_sums(ids, log_losses(positive, probability))
    expected = block_sums(ids, entropies(probability))
    return tuple(
        BlockLoss(block * block_us, rows, loss / rows, entropy / rows)
        for block, rows, loss, entropy in zip(
            losses.ids.tolist(),
            losses.rows.tolist(),
            losses.sums.tolist(),
            expected.sums.tolist(),
            strict=True,
        )
    )
