"""One training from its order to its files: read, split, fit, convert, compare, write."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import default_rng

from gyral.contracts.evaluation import EvaluationReport, GoldenRows
from gyral.contracts.specs.stream import FieldType
from gyral.modelling.blocks import block_ids
from gyral.modelling.columns import Column, ColumnError, Columns, Floats, Ints
from gyral.modelling.features import FeatureSpec, Transform, fit_transform_parameters
from gyral.modelling.manifest import Manifest
from gyral.modelling.metrics import log_losses
from gyral.modelling.profile import SCORE, BlockHistograms, ReferenceProfile, block_losses
from gyral.trainer.domain.splits import Split, fold_of_blocks, moment, split
from gyral.trainer.engine.apart import ApartError
from gyral.trainer.engine.conversion import compare
from gyral.trainer.engine.order import (
    ChampionFiles,
    Done,
    Order,
    Progress,
    TrainingRefusedError,
)
from gyral.trainer.engine.provenance import code_digest, manifest_of
from gyral.trainer.engine.recipes import Fitted, Recipe, recipe_of
from gyral.trainer.engine.rows import Rows, feature_specs, read_rows
from gyral.trainer.engine.scoring import Judged, Scorer, latency, scores
from gyral.trainer.engine.shipping import Answers

GOLDEN_ROWS = 32
Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Material:
    """What a training has to work with, read and split."""

    order: Order
    specs: tuple[FeatureSpec, ...]
    ranges: Split
    training: Rows
    window: Rows
    champion: Manifest | None

    @property
    def blocks(self) -> Ints:
        """Block of each training row."""
        return block_ids(self.training.times, self.ranges.block)


@dataclass(frozen=True, slots=True)
class Trained:
    """The fitted model and what it says of training rows it did not learn from."""

    fitted: Fitted
    transform: Transform
    out_of_fold: Floats


def train(order: Order, tell: Tell) -> Done:
    """Train, convert, compare and write the artifacts into the order's output folder.

    Raises:
        TrainingRefusedError: the data or the spec do not allow it.
    """
    recipe = recipe_of(order.spec.train.trainer, order.spec.train.parameters)
    tell(Progress(stage="reading", share=0.02))
    material = _gather(order)
    trained = _fit(material, recipe, tell)
    tell(Progress(stage="converting", share=0.85))
    shipped = trained.fitted.ship()
    manifest = manifest_of(
        order,
        trained.transform,
        shipped,
        specs=material.specs,
        ranges=material.ranges,
        rows=len(material.training),
    )
    tell(Progress(stage="evaluating", share=0.9))
    report = _evaluate(material, trained, Scorer(manifest, shipped.answers))
    tell(Progress(stage="writing", share=0.97))
    out = order.output
    for name, content in shipped.files.items():
        (out / name).write_bytes(content)
    (out / "manifest.json").write_bytes(manifest.to_json())
    (out / "profile.json").write_bytes(_profile(material, trained.out_of_fold).to_json())
    (out / "golden.json").write_text(
        _golden(order, material.window, trained.transform, shipped.answers)
    )
    (out / "evaluation.json").write_text(report.model_dump_json())
    return Done(
        trained_until=moment(material.ranges.trained_until),
        code_sha256=code_digest(),
        train_rows=len(material.training),
        holdout_rows=report.rows,
        metrics=_metrics(report, material.training, trained.out_of_fold),
    )


def _gather(order: Order) -> Material:
    """Read what the order pins, and check that it is enough."""
    specs = feature_specs(order)
    champion = (
        Manifest.from_json(order.champion.manifest.read_bytes()) if order.champion else None
    )
    ranges = split(order.spec, order.as_of)
    served: tuple[str, ...] = ()
    if champion is not None:
        ranges = ranges.not_before(champion.cutoff_us)
        served = champion.transform.names
    fields = (*order.spec.features.fields, *order.spec.gates.slices, *served)
    training, window = read_rows(order, ranges, fields)
    _require_rows(order, training, window)
    return Material(order, specs, ranges, training, window, champion)


def _require_rows(order: Order, training: Rows, window: Rows) -> None:
    wanted = order.spec.train.min_rows
    if len(training) < wanted:
        raise TrainingRefusedError(
            f"train.min_rows: expected {wanted} rows labelled before the holdout; "
            f"found {len(training)}"
        )
    positives = int(training.positive.sum())
    if positives in (0, len(training)):
        raise TrainingRefusedError(
            f"label.positive: expected both outcomes in training; found {positives} of "
            f"{len(training)} rows positive"
        )
    if not window.labelled.any():
        raise TrainingRefusedError(
            "train.holdout: expected labelled rows in the window; "
            f"found none among {len(window)} rows"
        )


def _fit(material: Material, recipe: Recipe, tell: Tell) -> Trained:
    """Fit on all training rows, and once a fold on the others to score it out of fold."""
    folds, seed = material.order.spec.train.folds, material.order.spec.train.seed
    training = material.training
    transform = fit_transform_parameters(training.columns, material.specs, recipe.encoding)
    matrix = transform.apply(training.columns)
    fold = fold_of_blocks(material.blocks, folds)
    out_of_fold = np.empty(len(training), np.float64)
    for number in range(folds):
        tell(Progress(stage=f"fold {number + 1} of {folds}", share=0.1 + 0.5 * number / folds))
        held = fold == number
        learned = recipe.fit(matrix[~held], training.positive[~held], transform, seed)
        out_of_fold[held] = learned.probabilities(matrix[held])
    tell(Progress(stage="fitting", share=0.6))
    return Trained(
        recipe.fit(matrix, training.positive, transform, seed), transform, out_of_fold
    )


def _evaluate(material: Material, trained: Trained, challenger: Scorer) -> EvaluationReport:
    """Score both versions on the window's labelled rows."""
    order, ranges, window = material.order, material.ranges, material.window
    matrix = trained.transform.apply(window.columns)
    shipped = challenger.answers.probabilities(matrix)
    parity = compare(trained.fitted.probabilities(matrix), shipped)
    champion, served, fault = _champion_on(order.champion, window.columns)
    known = window.labelled
    judged = Judged(
        rows=window.with_label,
        block_us=ranges.block,
        challenger=shipped[known],
        champion=None if served is None else served[known],
        baseline=float(material.training.positive.mean()),
    )
    positive = judged.rows.positive
    constant = np.full(len(positive), judged.baseline)
    until = material.champion.cutoff_us if material.champion else None
    return EvaluationReport(
        model=order.model,
        run_id=order.run_id,
        as_of=order.as_of,
        trained_until=moment(ranges.trained_until),
        champion_version=order.champion.version if order.champion else None,
        champion_trained_until=None if until is None else moment(until),
        champion_error=fault,
        window_start=moment(ranges.window_start),
        window_end=moment(ranges.window_end),
        block_us=ranges.block,
        rows=len(positive),
        unlabelled_rows=len(window) - len(positive),
        base_rate=float(positive.mean()),
        training_base_rate=judged.baseline,
        baseline_log_loss=float(log_losses(positive, constant).mean()),
        challenger=scores(positive, judged.challenger),
        champion=None if judged.champion is None else scores(positive, judged.champion),
        blocks=judged.block_losses(),
        slices=judged.slices(order.spec.gates.slices),
        score_psi=judged.score_psi(),
        parity=parity,
        latency=latency(challenger, champion, window.columns),
        notes=ranges.notes,
    )


def _champion_on(
    files: ChampionFiles | None, columns: Columns
) -> tuple[Scorer | None, Floats | None, str | None]:
    """Return the champion and its answers, or why there are none.

    An input may be gone, or a network no longer load or answer: that is no fault of the data.
    """
    if files is None:
        return None, None, None
    try:
        champion = Scorer.of(files)
        return champion, champion.probabilities(columns), None
    except (ColumnError, ApartError) as error:
        return None, None, f"champion: {error}"[:500]


def _profile(material: Material, scored: Floats) -> ReferenceProfile:
    ids, block, training = material.blocks, material.ranges.block, material.training
    rng = default_rng(material.order.spec.train.seed)
    return ReferenceProfile(
        model=material.order.model,
        run_id=material.order.run_id,
        cutoff_us=material.ranges.trained_until,
        block_us=block,
        features=BlockHistograms.measure(training.columns, material.specs, ids, block, rng),
        scores=BlockHistograms.measure({SCORE.name: scored}, [SCORE], ids, block, rng),
        block_losses=block_losses(ids, block, training.positive, scored),
        seed=material.order.spec.train.seed,
    )


def _golden(order: Order, window: Rows, transform: Transform, answers: Answers) -> str:
    """Return evenly spaced rows of the window with the shipped model's answers, as JSON."""
    count = min(GOLDEN_ROWS, len(window))
    picked = window.where(np.linspace(0, len(window) - 1, count).astype(np.int64))
    fields = order.features.spec.fields
    golden = GoldenRows(
        columns={
            name: tuple(_cell(cell, fields[name].type) for cell in _cells(picked.columns[name]))
            for name in order.spec.features.fields
        },
        probabilities=tuple(answers.probabilities(transform.apply(picked.columns)).tolist()),
    )
    return golden.model_dump_json()


def _cells(column: Column) -> list[float | str | None]:
    cells: list[float | str | None] = column.tolist()
    return cells


def _cell(cell: float | str | None, kind: FieldType) -> float | int | bool | str | None:
    """Return a cell as a request would carry it."""
    if cell is None or isinstance(cell, str):
        return cell
    if np.isnan(cell):
        return None
    if kind is FieldType.BOOLEAN:
        return bool(cell)
    return int(cell) if kind is FieldType.INTEGER else cell


def _metrics(
    report: EvaluationReport, training: Rows, scored: Floats
) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {
        "out_of_fold_log_loss": float(log_losses(training.positive, scored).mean()),
        "baseline_log_loss": report.baseline_log_loss,
        "score_psi": report.score_psi,
    }
    for name, scored_by in (("challenger", report.challenger), ("champion", report.champion)):
        if scored_by is not None:
            metrics |= {
                f"{name}_{part}": getattr(scored_by, part)
                for part in ("log_loss", "brier", "ece", "auc")
            }
    return metrics
