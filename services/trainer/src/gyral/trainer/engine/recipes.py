"""Training recipes of scikit-learn, their parameters, and how a fitted model becomes ONNX."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from skl2onnx import to_onnx
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from gyral.contracts.specs.model import Trainer
from gyral.modelling.columns import Bools, Floats
from gyral.modelling.features import Encoding, Transform
from gyral.trainer.engine.conversion import only_positive_class
from gyral.trainer.engine.order import TrainingRefusedError
from gyral.trainer.engine.shipping import Shipped, as_onnx

Matrix = NDArray[np.float32]
Parameters = Mapping[str, float | int | str | bool]


class Fitted(Protocol):
    """A model that learned."""

    def probabilities(self, matrix: Matrix) -> Floats:
        """Return P(positive) of each row, shape (n,)."""

    def ship(self) -> Shipped:
        """Return it in the format in which it is served; raises TrainingRefusedError."""


class Recipe(Protocol):
    """A way to make a model; it holds its parameters and no state."""

    @property
    def encoding(self) -> Encoding:
        """The matrix it reads."""

    def fit(self, matrix: Matrix, positive: Bools, transform: Transform, seed: int) -> Fitted:
        """Learn from n rows."""


@dataclass(frozen=True, slots=True)
class FittedSklearn:
    """A scikit-learn classifier that learned from `width` columns."""

    classifier: HistGradientBoostingClassifier | LogisticRegression
    width: int

    def probabilities(self, matrix: Matrix) -> Floats:
        """Return P(positive) of each row, shape (n,)."""
        given: Floats = self.classifier.predict_proba(matrix)[:, 1].astype(np.float64)
        return given

    def ship(self) -> Shipped:
        """Return it as ONNX, from float32 [n, k] to `probability` [n]."""
        return as_onnx(self._graph())

    def _graph(self) -> onnx.ModelProto:
        """Return its graph, of fixed name: the same model is the same bytes."""
        with warnings.catch_warnings():
            # It warns of its own deprecated calls; what it makes is compared row by row.
            warnings.simplefilter("ignore")
            model = to_onnx(
                self.classifier,
                np.zeros((1, self.width), np.float32),
                options={"zipmap": False},
                name="gyral",
                target_opset={"": 17, "ai.onnx.ml": 1},
            )
        return only_positive_class(model)


@dataclass(frozen=True, slots=True)
class HistGradientBoosting:
    """Boosted trees; categories come as ranks, because native ones convert wrong silently."""

    max_iter: Annotated[int, Field(ge=1, le=10_000)] = 150
    max_leaf_nodes: Annotated[int, Field(ge=2, le=4096)] = 31
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    min_samples_leaf: Annotated[int, Field(ge=1)] = 20
    l2_regularization: Annotated[float, Field(ge=0)] = 0.0
    max_bins: Annotated[int, Field(ge=2, le=255)] = 255

    encoding: ClassVar[Encoding] = Encoding.ORDINAL
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def fit(self, matrix: Matrix, positive: Bools, transform: Transform, seed: int) -> Fitted:
        """Learn from n rows."""
        classifier = HistGradientBoostingClassifier(
            max_iter=self.max_iter,
            max_leaf_nodes=self.max_leaf_nodes,
            learning_rate=self.learning_rate,
            min_samples_leaf=self.min_samples_leaf,
            l2_regularization=self.l2_regularization,
            max_bins=self.max_bins,
            early_stopping=False,
            categorical_features=None,
            random_state=seed,
        )
        fitted = classifier.fit(matrix, positive)
        _lower_thresholds(fitted)
        return FittedSklearn(fitted, len(transform.outputs))


def _lower_thresholds(classifier: HistGradientBoostingClassifier) -> None:
    """Lower each threshold to the next float32, in place, so that ONNX splits the same rows.

    Thresholds are float64 midpoints; converted, they are rounded, and one that rounds up to a
    value of the data sends its rows the other way. A float32 value is at most the midpoint just
    when it is at most the greatest float32 that is, so the fitted model itself does not change.
    """
    for predictors in classifier._predictors:  # noqa: SLF001 - there is no public way
        for predictor in predictors:
            exact = predictor.nodes["num_threshold"]
            with np.errstate(over="ignore"):
                near = exact.astype(np.float32)
            below = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
            predictor.nodes["num_threshold"] = below


@dataclass(frozen=True, slots=True)
class Logistic:
    """Logistic regression on standardised numbers and one-hot categories."""

    c: Annotated[float, Field(gt=0)] = 1.0
    max_iter: Annotated[int, Field(ge=1, le=100_000)] = 400
    tolerance: Annotated[float, Field(gt=0)] = 1e-4

    encoding: ClassVar[Encoding] = Encoding.ONE_HOT_STANDARD
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def fit(self, matrix: Matrix, positive: Bools, transform: Transform, seed: int) -> Fitted:
        """Learn from n rows.

        Raises:
            TrainingRefusedError: the solver did not converge.
        """
        classifier = LogisticRegression(
            C=self.c, max_iter=self.max_iter, tol=self.tolerance, random_state=seed
        ).fit(matrix, positive)
        if classifier.n_iter_.max() >= self.max_iter:
            raise TrainingRefusedError(
                f"train.parameters.max_iter: expected convergence within {self.max_iter}; "
                "found none; raise it or lower c"
            )
        return FittedSklearn(classifier, len(transform.outputs))


def recipe_of(trainer: Trainer, parameters: Parameters) -> Recipe:
    """Return the recipe a spec names, with the spec's parameters.

    Raises:
        TrainingRefusedError: a parameter is unknown or of another type, or torch is missing.
    """
    try:
        return _kind(trainer).validate_json(json.dumps(dict(parameters)), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise TrainingRefusedError(
            f"train.parameters.{name}: {first['msg']} for {trainer}; "
            f"found {parameters.get(name)!r}"
        ) from error


def _kind(trainer: Trainer) -> TypeAdapter[Recipe]:
    match trainer:
        case Trainer.HIST_GRADIENT_BOOSTING:
            return TypeAdapter(HistGradientBoosting)
        case Trainer.LOGISTIC_REGRESSION:
            return TypeAdapter(Logistic)
        case Trainer.MLP | Trainer.TRANSFORMER:
            return TypeAdapter(_network(trainer))


def _network(trainer: Trainer) -> type[Recipe]:
    try:
        # Gigabytes that few want.
        from gyral.trainer.engine.networks import RECIPES  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise TrainingRefusedError(
            f"train.trainer: {trainer} needs the extra gyral-trainer[torch]; found no "
            f"{error.name}; install it with `make setup TORCH=1`"
        ) from error
    return RECIPES[trainer]
