"""A training, end to end, on streams whose truth is known."""

from pathlib import Path

import numpy as np
import pytest

from gyral.contracts.evaluation import EvaluationReport, GoldenRows
from gyral.modelling.manifest import Manifest
from gyral.modelling.profile import ReferenceProfile
from gyral.trainer.engine.conversion import load
from gyral.trainer.engine.order import ARTIFACTS, ChampionFiles
from gyral.trainer.engine.training import train


def quiet(_progress: object) -> None:
    return None


def files(folder: Path, version: int = 1) -> ChampionFiles:
    return ChampionFiles(
        version=version, onnx=folder / "model.onnx", manifest=folder / "manifest.json"
    )


def report_of(folder: Path) -> EvaluationReport:
    return EvaluationReport.model_validate_json((folder / "evaluation.json").read_bytes())


@pytest.mark.parametrize(
    "trainer",
    [
        "sklearn.hist_gradient_boosting",
        "sklearn.logistic_regression",
        pytest.param("torch.mlp", marks=pytest.mark.torch),
    ],
)
def test_every_trainer_beats_the_base_rate_and_ships_what_it_fitted(order, trainer):
    wanted = order(trainer=trainer)
    done = train(wanted, quiet)
    report = report_of(wanted.output)
    assert {path.name for path in wanted.output.iterdir()} == set(ARTIFACTS)
    assert report.challenger.log_loss < report.baseline_log_loss - 0.01
    assert report.challenger.auc > 0.65
    assert report.parity.share_within >= 0.999
    assert len(report.blocks) == 14
    assert sum(block.rows for block in report.blocks) == report.rows == done.holdout_rows
    assert done.trained_until == report.trained_until <= report.window_start
    profile = ReferenceProfile.from_json((wanted.output / "profile.json").read_bytes())
    assert profile.baseline.mean < report.baseline_log_loss
    golden = GoldenRows.model_validate_json((wanted.output / "golden.json").read_bytes())
    manifest = Manifest.from_json((wanted.output / "manifest.json").read_bytes())
    columns = {name: np.array(cells, dtype=object) for name, cells in golden.columns.items()}
    session = load((wanted.output / "model.onnx").read_bytes())
    again = session.probabilities(manifest.transform.apply(columns))
    np.testing.assert_allclose(again, golden.probabilities, atol=golden.tolerance)
