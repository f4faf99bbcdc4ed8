"""Training recipes of scikit-learn, their parameters, and how a fitted model becomes ONNX."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from gyral.contracts.specs.model import Trainer
from gyral.modelling.columns import Bools, Floats
from gyral.modelling.features import Encoding, Transform
from gyral.trainer.engine.conversion import only_positive_class
from gyral.trainer.engine.order import TrainingRefusedError

Matrix = NDArray[np.float32]
Parameters = Mapping[str, float | int | str | bool]


class Fitted(Protocol):
    """A model that learned."""

    def probabilities(self, matrix: Matrix) -> Floats:
        """Return P(positive) of each row, shape (n,)."""

    def to_onnx(self) -> onnx.ModelProto:
        """Return it as one ONNX graph from float32 [n, k] to `probability` [n]."""


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

    def to_onnx(self) -> onnx.ModelProto:
        """Return it as one ONNX graph; its name is fixed, so the same model is the same bytes."""
        with warnings.catch_warnings():
            # The converter warns of its own deprecated calls; what it makes is compared row by row.
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

    max_iter: int = 150
    max_leaf_nodes: int = 31
    learning_rate: float = 0.1
    min_samples_leaf: int = 20
    l2_regularization: float = 0.0
    max_bins: int = 255

    encoding = Encoding.ORDINAL

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
        return FittedSklearn(classifier.fit(matrix, positive), len(transform.outputs))


@dataclass(frozen=True, slots=True)
class Logistic:
    """Logistic regression on standardised numbers and one-hot categories."""

    c: float = 1.0
    max_iter: int = 400
    tolerance: float = 1e-4

    encoding = Encoding.ONE_HOT_STANDARD

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
    if trainer is Trainer.MLP:
        try:
            from gyral.trainer.engine.networks import Mlp  # noqa: PLC0415 - gigabytes, wanted by few
        except ModuleNotFoundError as error:
            raise TrainingRefusedError(
                f"train.trainer: {trainer} needs the extra gyral-trainer[torch]; found no {error.name}; "
                "install it with `make setup TORCH=1`"
            ) from error
        return Mlp(**_checked(trainer, parameters, Mlp.defaults()))
    kind = HistGradientBoosting if trainer is Trainer.HIST_GRADIENT_BOOSTING else Logistic
    defaults = {name: getattr(kind(), name) for name in kind.__dataclass_fields__}
    return kind(**_checked(trainer, parameters, defaults))


def _checked(
    trainer: Trainer, parameters: Parameters, defaults: Mapping[str, float | int]
) -> dict[str, float | int]:
    """Return the parameters with the types of their defaults."""
    checked: dict[str, float | int] = {}
    for name, given in parameters.items():
        if name not in defaults:
            known = ", ".join(sorted(defaults))
            raise TrainingRefusedError(
                f"train.parameters: expected any of {known} for {trainer}; found {name!r}"
            )
        whole = isinstance(defaults[name], int)
        if isinstance(given, bool | str) or (whole and given != int(given)):
            wanted = "a whole number" if whole else "a number"
            raise TrainingRefusedError(
                f"train.parameters.{name}: expected {wanted}; found {given!r}"
            )
        checked[name] = int(given) if whole else float(given)
    return checked
