import pytest

from gyral.contracts.evaluation import Cell
from gyral.testkit.onnx_models import Logistic

ROWS: tuple[dict[str, Cell], ...] = (
    {"x": 1.0, "kind": "b", "on": True},
    {"x": None, "kind": None, "on": False},
    {"x": -2.5, "kind": "new", "on": True},
)


@pytest.fixture
def logistic() -> Logistic:
    """P = sigmoid(0.1 + 0.5 x + 0.3 [kind is b] - 0.2 [on])."""
    weights = {"x": 0.5, "kind": 0.3, "on": -0.2}
    return Logistic(weights, bias=0.1, categories={"kind": ("a", "b")})


@pytest.fixture
def files(logistic: Logistic):
    """The files of a version, with three golden rows."""
    return logistic.files(ROWS)
