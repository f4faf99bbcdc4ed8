"""Whether a version may serve: every gate must hold, and a gate without a number fails."""

import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng

from gyral.contracts.evaluation import BlockLosses, EvaluationReport, Slice
from gyral.contracts.specs.model import Gates, ModelBody
from gyral.contracts.training import RunSucceeded
from gyral.contracts.versions import Check
from gyral.modelling.blocks import BlockSums, MeanBounds, mean_bounds

MIN_SLICE_ROWS = 500
MAX_REASON = 500
"""Characters of `names.Reason`."""
_REJUDGED = uuid.UUID("0b9e5c0e-6a55-5a0f-8c42-1f6f5c0f9f1d")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Every gate that was looked at; approved when all of them passed."""

    checks: tuple[Check, ...]

    @property
    def approved(self) -> bool:
        """True when there were gates and none failed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence a failed gate, no longer than an event may carry."""
        return tuple(
            f"{check.name}: expected {check.limit}; found {check.measured}"[:MAX_REASON]
            for check in self.checks
            if not check.passed
        )


def rejudging_id(run_id: str) -> str:
    """Return the request id under which a run is repeated against another champion."""
    return str(uuid.uuid5(_REJUDGED, run_id))


def stale(compared: int | None, champion: int) -> Verdict:
    """Return the verdict on a version that was compared with a version no longer champion."""
    return Verdict(
        (
            Check(
                name="champion",
                passed=False,
                measured=str(compared),
                limit=f"version {champion}",
            ),
        )
    )


def unreadable(reason: str) -> Verdict:
    """Return the verdict on a version whose evidence cannot be read, now or ever."""
    return Verdict(
        (
            Check(
                name="evidence", passed=False, measured=reason[:400], limit="readable evidence"
            ),
        )
    )


def undeclared(model: str) -> Verdict:
    """Return the verdict on a version of a model that nobody declared."""
    return Verdict(
        (Check(name="model", passed=False, measured=model, limit="a declared model"),)
    )


def judge(
    run: RunSucceeded, report: EvaluationReport, inputs: tuple[str, ...], spec: ModelBody
) -> Verdict:
    """Judge a run's version by its evaluation; paired gates only where there is a champion.

    Args:
        run: the run as the trainer announced it.
        report: the run's evaluation on rows neither version was trained on.
        inputs: input names of the run's manifest, in order.
        spec: the model's declaration.
    """
    rng = default_rng(run.seed)
    checks = [*_sound(run, report, inputs, spec), *_sane(report, spec.gates)]
    if run.champion_version is not None:
        checks += [*_paired(report, spec.gates, rng), *_slices(report, spec.gates, rng)]
    return Verdict(tuple(checks))


def _sound(
    run: RunSucceeded, report: EvaluationReport, inputs: tuple[str, ...], spec: ModelBody
) -> Iterator[Check]:
    """Schema, identity and leakage: is this report about this run, and is it honest."""
    yield Check(
        name="schema",
        passed=inputs == spec.features.fields,
        measured=",".join(inputs),
        limit=",".join(spec.features.fields),
    )
    yield Check(
        name="identity",
        passed=report.run_id == run.run_id and report.champion_version == run.champion_version,
        measured=f"{report.run_id} against {report.champion_version}",
        limit=f"{run.run_id} against {run.champion_version}",
    )
    yield Check(
        name="leakage",
        passed=report.trained_until <= report.window_start,
        measured=report.trained_until.isoformat(),
        limit=f"at most {report.window_start.isoformat()}",
    )
    yield Check(
        name="parity",
        passed=report.parity.share_within >= 0.999,  # noqa: PLR2004 - FINDINGS: conversions go wrong silently
        measured=report.parity.share_within,
        limit="at least 0.999",
    )


def _sane(report: EvaluationReport, gates: Gates) -> Iterator[Check]:
    """What any version must show by itself.

    Enough rows, honest numbers, better than a constant.
    """
    scores, blocks = report.challenger, len(report.blocks)
    yield Check(
        name="blocks",
        passed=blocks >= gates.log_loss.min_blocks,
        measured=float(blocks),
        limit=f"at least {gates.log_loss.min_blocks}",
    )
    broken = scores.nan_rows + scores.outside_rows
    yield Check(
        name="valid", passed=broken == 0, measured=float(broken), limit="0 rows outside [0, 1]"
    )
    yield Check(
        name="varies",
        passed=not scores.constant,
        measured=str(not scores.constant),
        limit="True",
    )
    yield _at_most("baseline", scores.log_loss, report.baseline_log_loss)
    bias = _difference(scores.mean_probability, report.base_rate)
    yield _at_most("calibration", None if bias is None else abs(bias), gates.calibration)


def _paired(report: EvaluationReport, gates: Gates, rng: Generator) -> Iterator[Check]:
    """What a challenger must show against the champion on rows that neither has seen."""
    until = report.champion_trained_until
    yield Check(
        name="champion_leakage",
        passed=until is not None and until <= report.window_start,
        measured=None if until is None else until.isoformat(),
        limit=f"at most {report.window_start.isoformat()}",
    )
    gate = gates.log_loss
    gain = _gain(report.blocks, rng, gate.confidence)
    lower = None if gain is None else gain.lower
    yield Check(
        name="log_loss_gain",
        passed=gain is not None and gain.lower > gate.lower_bound_above and gain.mean > 0,
        measured=lower,
        limit=f"{gate.confidence:.0%} lower bound above {gate.lower_bound_above}",
    )
    champion = report.champion
    yield _at_most("brier", report.challenger.brier, champion.brier if champion else None)
    ece = champion.ece if champion else None
    yield _at_most("ece", report.challenger.ece, None if ece is None else ece + gates.ece)
    yield _at_most("latency_ratio", report.latency.ratio, gates.latency_ratio)


def _slices(report: EvaluationReport, gates: Gates, rng: Generator) -> Iterator[Check]:
    """No slice may be harmed for certain.

    The lower bound of its harm, Bonferroni-corrected, stays below the limit.
    """
    large = [part for part in report.slices if part.rows >= MIN_SLICE_ROWS]
    worst: tuple[float, str] | None = None
    for part in large:
        harm = _harm(part, rng, 1 - (1 - gates.log_loss.confidence) / len(large))
        name = f"{part.field}={part.value}"
        worst = max(worst or (-math.inf, ""), (math.inf if harm is None else harm, name))
    if worst is None:
        return
    harm, name = worst
    yield Check(
        name="slice_harm",
        passed=harm < gates.slice_harm,
        measured=f"{harm:.4f} in {name}"[:200],
        limit=f"below {gates.slice_harm}",
    )


def _gain(
    blocks: tuple[BlockLosses, ...], rng: Generator, confidence: float
) -> MeanBounds | None:
    """Bound the mean of champion's loss less challenger's; None where either is missing."""
    pairs = [
        (block.block, block.rows, block.champion_log_loss, block.challenger_log_loss)
        for block in blocks
    ]
    return _bounds(pairs, rng, confidence)


def _harm(part: Slice, rng: Generator, confidence: float) -> float | None:
    """Return the lower bound of challenger's loss less champion's.

    A small slice's noise rejects nobody.
    """
    pairs = [
        (block.block, block.rows, block.challenger_log_loss, block.champion_log_loss)
        for block in part.blocks
    ]
    bounds = _bounds(pairs, rng, confidence)
    return None if bounds is None else bounds.lower


def _bounds(
    pairs: list[tuple[int, int, float | None, float | None]], rng: Generator, confidence: float
) -> MeanBounds | None:
    differences = [
        (block, rows, a - b) for block, rows, a, b in pairs if a is not None and b is not None
    ]
    if len(differences) < max(2, len(pairs)):
        return None
    ids, rows, sums = zip(*differences, strict=True)
    return mean_bounds(
        BlockSums(
            np.array(ids, np.int64), np.array(rows, np.int64), np.array(sums, np.float64)
        ),
        rng,
        confidence=confidence,
    )


def _at_most(name: str, measured: float | None, limit: float | None) -> Check:
    """Pass when both numbers exist and the measured one does not exceed the limit."""
    passed = measured is not None and limit is not None and measured <= limit
    return Check(
        name=name,
        passed=passed,
        measured=measured,
        limit=limit if limit is None else f"at most {limit:.4g}",
    )


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
