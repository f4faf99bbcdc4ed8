"""A training, end to end, on streams whose truth is known."""

import ast
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from gyral.contracts.evaluation import EvaluationReport, GoldenRows
from gyral.modelling.archives import sources_of
from gyral.modelling.features import (
    Encoding,
    FeatureKind,
    FeatureSpec,
    fit_transform_parameters,
)
from gyral.modelling.manifest import Manifest
from gyral.modelling.profile import ReferenceProfile
from gyral.runtime.engine import Predictor
from gyral.testkit.torch_models import SOURCE, torch_files
from gyral.trainer.engine import conversion, recipes
from gyral.trainer.engine.conversion import compare, load
from gyral.trainer.engine.order import (
    ARTIFACTS,
    TORCH_ARTIFACTS,
    ChampionFiles,
    TrainingRefusedError,
)
from gyral.trainer.engine.training import train
from tests.architecture.sources import imported

from .conftest import AS_OF


def quiet(_progress: object) -> None:
    return None


def files(folder: Path, version: int = 1) -> ChampionFiles:
    return ChampionFiles(
        version=version, model=folder / "model.onnx", manifest=folder / "manifest.json"
    )


def a_network(folder: Path, answer: str) -> ChampionFiles:
    """Return a champion served as torch whose network does as told, and reads two numbers."""
    made = torch_files(
        SOURCE.replace("return torch.sigmoid(self.layer(matrix)).squeeze(1)", answer)
    )
    text = made.manifest.replace(b'"x"', b'"distance"').replace(b'"y"', b'"seats"')
    names = {"weights": made.weights, "code": made.code, "manifest": text}
    for name, content in names.items():
        (folder / name).write_bytes(content)
    return ChampionFiles(
        version=1,
        model=folder / "weights",
        manifest=folder / "manifest",
        code=folder / "code",
    )


def report_of(folder):
    return EvaluationReport.model_validate_json((folder / "evaluation.json").read_bytes())


@pytest.mark.parametrize(
    "trainer",
    [
        "sklearn.hist_gradient_boosting",
        "sklearn.logistic_regression",
        pytest.param("torch.mlp", marks=pytest.mark.torch),
        pytest.param("torch.transformer", marks=pytest.mark.torch),
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


def test_the_same_order_gives_the_same_model_and_the_same_numbers(order):
    first, second = order(), order()
    metrics = [train(wanted, quiet).metrics for wanted in (first, second)]
    assert metrics[0] == metrics[1]
    for name in ("model.onnx", "golden.json"):
        assert (first.output / name).read_bytes() == (second.output / name).read_bytes()


AS_TORCH = {"serve": "torch", "epochs": 1, "width": 8, "blocks": 1, "heads": 2}


@pytest.mark.torch
@pytest.mark.parametrize(
    ("trainer", "parameters"),
    [("torch.transformer", AS_TORCH), ("torch.mlp", {"serve": "torch", "epochs": 1})],
)
def test_a_network_served_as_torch_is_weights_and_sources_that_answer_as_it_did(
    order, trainer, parameters
):
    wanted = order(trainer=trainer, folds=2, parameters=parameters)
    train(wanted, quiet)
    out = wanted.output
    assert {path.name for path in out.iterdir()} == set(TORCH_ARTIFACTS)
    parity = report_of(out).parity
    assert (parity.largest, parity.share_within) == (0.0, 1.0)
    names = ("manifest.json", "model.safetensors", "code.zip")
    served = Predictor.of(*((out / name).read_bytes() for name in names))
    golden = GoldenRows.model_validate_json((out / "golden.json").read_bytes())
    np.testing.assert_allclose(
        served.predict_lists(golden.columns), golden.probabilities, atol=golden.tolerance
    )
    [(name, source)] = sources_of((out / "code.zip").read_bytes()).items()
    assert name == "network.py"
    assert {module.partition(".")[0] for _, module in imported(ast.parse(source))} == {
        "collections",
        "torch",
    }


@pytest.mark.torch
def test_the_same_order_is_served_by_the_same_bytes_and_is_a_champion_to_judge_by(order):
    spec = {"trainer": "torch.transformer", "folds": 2, "parameters": AS_TORCH}
    first, second = (order(as_of=AS_OF - timedelta(days=21), **spec) for _ in range(2))
    for wanted in (first, second):
        train(wanted, quiet)
    for name in ("model.safetensors", "code.zip", "golden.json"):
        assert (first.output / name).read_bytes() == (second.output / name).read_bytes()
    champion = ChampionFiles(
        version=1,
        model=first.output / "model.safetensors",
        manifest=first.output / "manifest.json",
        code=first.output / "code.zip",
    )
    late = order(champion=champion)
    train(late, quiet)
    assert report_of(late.output).champion_error is None
    assert report_of(late.output).champion is not None
    assert report_of(late.output).latency.champion_us > 0
    without = champion.model_copy(update={"code": None})
    with pytest.raises(TrainingRefusedError, match=r"champion: expected its code\.zip"):
        train(order(champion=without), quiet)


@pytest.mark.torch
def test_where_torch_is_missing_a_training_that_needs_it_is_refused(order, monkeypatch):
    spec = {"trainer": "torch.mlp", "parameters": {"serve": "torch", "epochs": 1}, "folds": 2}
    monkeypatch.setitem(sys.modules, "gyral.trainer.engine.networks", None)
    said = r"torch\.mlp needs the extra .* `make setup TORCH=1`"
    with pytest.raises(TrainingRefusedError, match=said):
        train(order(**spec), quiet)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("raise RuntimeError", "champion: network: expected an answer; found RuntimeError"),
        (
            "return matrix[:, 0] / (len(matrix) < 2 or [][0])",
            "champion: network: expected an answer; found IndexError",
        ),
        ("import os; os._exit(0)", "champion: network: expected an answer within 900 s"),
    ],
)
def test_a_network_that_serves_and_fails_here_is_said_to_be_unscored(
    order, tmp_path, answer, said
):
    """The first when it is loaded, the second on the window's rows."""
    late = order(champion=a_network(tmp_path, answer))
    train(late, quiet)
    report = report_of(late.output)
    assert report.champion is None
    assert report.latency.champion_us is None
    assert report.champion_error.startswith(said)


@pytest.mark.torch
def test_heads_that_cannot_share_a_width_are_refused(order):
    with pytest.raises(TrainingRefusedError, match="width: expected a multiple of heads = 4"):
        train(order(trainer="torch.transformer", parameters={"width": 30}), quiet)


def test_challenger_and_champion_are_scored_on_the_same_rows_block_by_block(order):
    early = order(as_of=AS_OF - timedelta(days=21), trainer="sklearn.logistic_regression")
    train(early, quiet)
    late = order(champion=files(early.output, version=3))
    train(late, quiet)
    report = report_of(late.output)
    assert (report.champion_version, report.champion_error) == (3, None)
    assert report.champion is not None
    assert report.champion_trained_until < report.trained_until
    total = sum(block.champion_log_loss for block in report.blocks)
    assert total / report.rows == pytest.approx(report.champion.log_loss)
    mine = sum(block.challenger_log_loss for block in report.blocks)
    assert mine / report.rows == pytest.approx(report.challenger.log_loss)
    assert {part.field for part in report.slices} == {"zone"}
    assert all(sum(it.rows for it in part.blocks) == part.rows >= 500 for part in report.slices)
    assert report.latency.ratio > 0
    assert report.score_psi >= 0


def test_a_champion_that_saw_part_of_the_window_shortens_it(order):
    newer = order(as_of=AS_OF)
    train(newer, quiet)
    older = order(as_of=AS_OF - timedelta(days=4), champion=files(newer.output))
    train(older, quiet)
    report = report_of(older.output)
    assert report.window_start == report.champion_trained_until > report.trained_until
    assert len(report.blocks) == 10
    assert "window cut" in report.notes[0]


def test_a_champion_whose_input_is_gone_is_said_to_be_unscored(order, tmp_path):
    early = order(as_of=AS_OF - timedelta(days=21))
    train(early, quiet)
    renamed = tmp_path / "champion.json"
    manifest = (early.output / "manifest.json").read_text()
    renamed.write_text(manifest.replace('"seats"', '"chairs"'))
    champion = ChampionFiles(version=1, model=early.output / "model.onnx", manifest=renamed)
    late = order(champion=champion)
    train(late, quiet)
    report = report_of(late.output)
    assert report.champion is None
    assert "chairs" in report.champion_error


def test_a_wrong_conversion_is_caught_with_its_numbers(order, monkeypatch):
    converted = conversion.only_positive_class

    def planted(model):
        """Ask for the other class, as a converter with a bug might."""
        wrong = converted(model)
        wrong.graph.initializer[-1].int64_data[0] = 0
        return wrong

    monkeypatch.setattr(recipes, "only_positive_class", planted)
    with pytest.raises(
        TrainingRefusedError, match=r"shipped model: expected 99\.9% .* found 0\."
    ):
        train(order(), quiet)


def test_few_rows_may_differ_and_many_may_not():
    native = np.full(2000, 0.5)
    one_off = native.copy()
    one_off[0] += 0.01
    assert compare(native, one_off).largest == pytest.approx(0.01)
    three_off = native.copy()
    three_off[:3] += 0.01
    with pytest.raises(TrainingRefusedError, match=r"found 99\.85%"):
        compare(native, three_off)


@pytest.mark.parametrize(
    ("train_spec", "complaint"),
    [
        ({"parameters": {"max_depht": 3}}, r"train\.parameters\.max_depht"),
        ({"parameters": {"max_iter": "many"}}, r"train\.parameters\.max_iter"),
        ({"min_rows": 1_000_000}, r"train\.min_rows: expected 1000000 rows"),
        ({"folds": 20, "window": "3d"}, r"train\.folds: expected at least 20 blocks"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_field(order, train_spec, complaint):
    with pytest.raises(ValueError, match=complaint):
        train(order(**train_spec), quiet)


def test_values_one_step_apart_go_the_same_way_in_onnx_as_in_the_fitted_trees():
    rng = np.random.default_rng(1)
    steps = [np.float32(0.24)]
    for _ in range(6):
        steps.append(np.nextafter(steps[-1], np.float32(1)))
    matrix = rng.choice(np.array(steps, np.float32), size=(4000, 2))
    positive = rng.random(4000) < 0.1 + 0.8 * (matrix[:, 0] > steps[2])
    columns = {"a": matrix[:, 0].astype(float), "b": matrix[:, 1].astype(float)}
    features = [FeatureSpec(name, FeatureKind.NUMERIC) for name in columns]
    transform = fit_transform_parameters(columns, features, Encoding.ORDINAL)
    fitted = recipes.HistGradientBoosting(max_iter=10).fit(matrix, positive, transform, 1)
    shipped = fitted.ship().answers
    apart = np.abs(fitted.probabilities(matrix) - shipped.probabilities(matrix))
    assert apart.max() < 1e-6
