"""Where a model is held, as it is declared: what cannot be meant is refused, never ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gyral.contracts.specs.model import ModelSpec, Served
from gyral.contracts.specs.serving import Placement, Serving


def a_model(serving=None, name="churn", **train):
    body = {
        "task": "binary-classification",
        "features": {"stream": "rows", "fields": ["age"]},
        "label": {"stream": "labels", "key": "id", "positive": "left > 0"},
        "train": {"trainer": "sklearn.logistic_regression", **train},
    }
    return ModelSpec.model_validate(
        {
            "apiVersion": "gyral/v1",
            "kind": "Model",
            "metadata": {"name": name},
            "spec": body if serving is None else body | {"serving": serving},
        }
    )


def test_a_model_shares_its_runtimes_unless_it_says_otherwise():
    assert a_model().spec.serving == Serving()
    assert a_model().spec.serving.runtime is Placement.SHARED


def test_a_declaration_without_the_section_stays_the_same_bytes():
    """Else each model would get another generation by an update, and older readers none."""
    assert "serving" not in a_model().model_dump_json()
    assert "serving" not in a_model({"runtime": "shared"}).model_dump_json()
    assert '"serving"' in a_model({"runtime": "own"}).model_dump_json()


def test_the_last_runtime_ends_after_a_quarter_of_an_hour_unless_said_otherwise():
    own = {"runtime": "own", "replicas": {"min": 0, "max": 3}}
    assert Serving.model_validate(own).idle_s == 900
    assert Serving.model_validate(own | {"idle": "2h"}).idle_s == 7200


@given(
    st.integers(0, 100),
    st.integers(1, 100),
    st.floats(0.001, 60),
    st.sampled_from([None, "5m"]),
)
def test_what_is_taken_is_read_again_as_it_was(low, high, queue, idle):
    given_ = {
        "runtime": "own", "replicas": {"min": low, "max": high}, "queue": queue, "idle": idle,
    }  # fmt: skip
    try:
        serving = a_model(given_).spec.serving
    except ValidationError:
        assert (
            high < low
            or (idle is not None and low > 0)
            or (queue != 0.05 and high <= max(low, 1))
        )
        return
    again = ModelSpec.model_validate_json(a_model(given_).model_dump_json())
    assert again.spec.serving == serving


@pytest.mark.parametrize(
    ("serving", "problem"),
    [
        ({"replicas": {"min": 1, "max": 2}}, "replicas: expected it only beside runtime: own"),
        ({"replicas": {"min": 0}}, "replicas: expected it only beside runtime: own"),
        ({"idle": "5m"}, "idle: expected it only beside runtime: own"),
        ({"queue": 0.5}, "queue: expected it only beside runtime: own"),
        (
            {"runtime": "own", "replicas": {"min": 3, "max": 2}},
            "replicas: expected min <= max; found 3 > 2: raise max",
        ),
        (
            {"runtime": "own", "idle": "5m"},
            "idle: expected replicas.min 0, .* found 1: set it to 0, or leave out idle",
        ),
        (
            {"runtime": "own", "replicas": {"min": 0}, "idle": "10ms"},
            "idle: expected at least 1s; found 10ms",
        ),
        (
            {"runtime": "own", "replicas": {"min": 0, "max": 1}, "queue": 0.2},
            "queue: expected replicas.max above 1, .* found 1: raise replicas.max",
        ),
        ({"runtime": "own", "queue": 0}, "greater than 0"),
        ({"runtime": "own", "replicas": {"min": -1}}, "greater than or equal to 0"),
        ({"runtime": "own", "replicas": {"max": 101}}, "less than or equal to 100"),
        ({"runtime": "mine"}, "'shared' or 'own'"),
        ({"runtime": "own", "gpu": 1}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_declared(serving, problem):
    with pytest.raises(ValidationError, match=problem):
        a_model(serving)


def test_no_model_with_runtimes_of_its_own_is_called_as_those_that_all_share():
    assert a_model(name="shared").name == "shared"
    with pytest.raises(ValidationError, match=r"metadata\.name: expected another name"):
        a_model({"runtime": "own"}, name="shared")


AS_TORCH = {"trainer": "torch.transformer", "parameters": {"serve": "torch"}}


def test_a_model_served_as_torch_has_runtimes_of_its_own():
    spec = a_model({"runtime": "own"}, **AS_TORCH).spec
    assert spec.train.served is Served.TORCH
    assert a_model().spec.train.served is Served.ONNX
    for serving in (None, {"runtime": "shared"}):
        with pytest.raises(ValidationError, match=r"expected own, since train\.parameters"):
            a_model(serving, **AS_TORCH)


@pytest.mark.parametrize("wanted", ["tensorrt", "", "ONNX", True, 1])
def test_a_format_that_nobody_serves_is_refused(wanted):
    with pytest.raises(ValidationError, match=r"parameters\.serve: expected onnx or torch"):
        a_model(trainer="torch.mlp", parameters={"serve": wanted})


def test_a_format_is_chosen_for_networks_alone():
    with pytest.raises(ValidationError, match=r"expected none for sklearn\."):
        a_model({"runtime": "own"}, parameters={"serve": "onnx"})
