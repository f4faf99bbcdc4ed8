"""Scores challenger and champion on the same rows, as sums per block to resample."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Self, TypeAlias

import numpy as np

from gyral.contracts.evaluation import BlockLosses, Latency, Scores, Slice, SliceLosses
from gyral.modelling.blocks import block_ids
from gyral.modelling.columns import Bools, Column, Columns, Floats, Ints, texts
from gyral.modelling.histograms import ReferenceBins, numeric_bins_of
from gyral.modelling.manifest import Manifest
from gyral.modelling.metrics import (
    brier_scores,
    expected_calibration_error,
    log_losses,
    roc_auc,
)
from gyral.trainer.engine.order import ChampionFiles
from gyral.trainer.engine.rows import Rows
from gyral.trainer.engine.shipping import Answers, champion_answers

SLICE_ROWS = 500
"""Fewer rows say nothing about a slice."""

Sums: TypeAlias = list[float | None]

LATENCY_ROWS = 64
LATENCY_CALLS = 60


@dataclass(frozen=True, slots=True)
class Scorer:
    """A version as it is served: raw columns in, probabilities out."""

    manifest: Manifest
    answers: Answers

    @classmethod
    def of(cls, files: ChampionFiles) -> Self:
        """Load a version from its files; raises ApartError or TrainingRefusedError."""
        manifest = Manifest.from_json(files.manifest.read_bytes())
        return cls(manifest, champion_answers(manifest, files))

    def probabilities(self, columns: Columns) -> Floats:
        """Return P(positive) of n raw rows, shape (n,); raises ColumnError or ApartError."""
        return self.answers.probabilities(self.manifest.transform.apply(columns))


@dataclass(frozen=True, slots=True)
class Judged:
    """Labelled rows of the window with what each version said of them."""

    rows: Rows
    block_us: int
    challenger: Floats
    champion: Floats | None
    baseline: float
    """Share of positives in training."""

    @property
    def blocks(self) -> Ints:
        """Block of each row."""
        return block_ids(self.rows.times, self.block_us)

    def block_losses(self) -> tuple[BlockLosses, ...]:
        """Sum every loss per block."""
        positive = self.rows.positive
        ids, at = np.unique(self.blocks, return_inverse=True)
        constant = np.full(len(positive), self.baseline)
        baseline = np.bincount(at, log_losses(positive, constant))
        loss, brier = _both(at, positive, self.challenger)
        champion_loss, champion_brier = _both(at, positive, self.champion)
        rows, positives = np.bincount(at), np.bincount(at, positive)
        return tuple(
            BlockLosses(
                block=int(block),
                rows=int(rows[place]),
                positives=int(positives[place]),
                challenger_log_loss=loss[place],
                champion_log_loss=champion_loss[place],
                challenger_brier=brier[place],
                champion_brier=champion_brier[place],
                baseline_log_loss=float(baseline[place]),
            )
            for place, block in enumerate(ids)
        )

    def slices(self, fields: tuple[str, ...]) -> tuple[Slice, ...]:
        """Sum the log-losses of both versions per value of each field, and per block."""
        return tuple(part for field in fields for part in self._slices_of(field))

    def _slices_of(self, field: str) -> Iterator[Slice]:
        column = self.rows.columns.get(field)
        if column is None:
            return
        values = np.array(
            ["" if cell is None else f"={cell}" for cell in texts(column)], np.str_
        )
        found, counts = np.unique(values, return_counts=True)
        for value, count in zip(found.tolist(), counts.tolist(), strict=True):
            if count >= SLICE_ROWS:
                name = value[1:] if value else None
                yield Slice(
                    field=field,
                    value=name,
                    rows=count,
                    blocks=self._slice_losses(values == value),
                )

    def _slice_losses(self, kept: Bools) -> tuple[SliceLosses, ...]:
        ids, at = np.unique(self.blocks[kept], return_inverse=True)
        positive, rows = self.rows.positive[kept], np.bincount(at)
        challenger, _ = _both(at, positive, self.challenger[kept])
        champion, _ = _both(
            at, positive, None if self.champion is None else self.champion[kept]
        )
        return tuple(
            SliceLosses(
                block=int(block),
                rows=int(rows[place]),
                challenger_log_loss=challenger[place],
                champion_log_loss=champion[place],
            )
            for place, block in enumerate(ids)
        )

    def score_psi(self) -> float | None:
        """Measure how differently challenger's and champion's probabilities are spread."""
        if self.champion is None or np.isnan(self.challenger).any():
            return None
        bins = ReferenceBins((numeric_bins_of("score", self.champion),))
        reference, live = (bins.count({"score": it}) for it in (self.champion, self.challenger))
        return float(bins.population_stability(reference, live)[0])


def scores(positive: Bools, probability: Floats) -> Scores:
    """Measure one version over all rows."""
    broken = int(np.isnan(probability).sum())
    outside = int(((probability < 0.0) | (probability > 1.0)).sum())
    usable = not broken and not outside
    return Scores(
        log_loss=finite(log_losses(positive, probability).mean()),
        brier=finite(brier_scores(positive, probability).mean()),
        ece=finite(expected_calibration_error(positive, probability)) if usable else None,
        auc=finite(roc_auc(positive, probability)) if usable else None,
        mean_probability=finite(probability.mean()),
        lowest=finite(probability.min()),
        highest=finite(probability.max()),
        nan_rows=broken,
        outside_rows=outside,
        constant=bool(np.ptp(probability) == 0.0),
    )


def latency(challenger: Scorer, champion: Scorer | None, columns: Columns) -> Latency:
    """Time both versions in turn on the same batch, so that a busy machine slows both alike.

    Each computes on one thread, as it serves.
    """
    batch: dict[str, Column] = {name: column[:LATENCY_ROWS] for name, column in columns.items()}
    arms = [challenger] if champion is None else [challenger, champion]
    times: list[list[float]] = [[] for _ in arms]
    for _ in range(LATENCY_CALLS):
        for arm, taken in zip(arms, times, strict=True):
            start = time.perf_counter()
            arm.probabilities(batch)
            taken.append((time.perf_counter() - start) * 1e6)
    medians = [median(taken) for taken in times]
    return Latency(
        batch_rows=len(next(iter(batch.values()))),
        challenger_us=medians[0],
        champion_us=medians[1] if champion is not None else None,
    )


def finite(value: float) -> float | None:
    """Return a number as JSON can carry it."""
    return float(value) if np.isfinite(value) else None


def _both(at: Ints, positive: Bools, probability: Floats | None) -> tuple[Sums, Sums]:
    """Return the sums of log-loss and Brier score per block; all None without a version."""
    if probability is None:
        none: Sums = [None] * (int(at.max()) + 1)
        return none, none
    return (
        _sums(at, log_losses(positive, probability)),
        _sums(at, brier_scores(positive, probability)),
    )


def _sums(at: Ints, values: Floats) -> Sums:
    return [finite(total) for total in np.bincount(at, values)]
