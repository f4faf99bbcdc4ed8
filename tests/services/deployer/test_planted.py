"""Bad versions, planted: none is ever ready or leaves its shadow; all say why in one place."""

import os
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.services.deployer.house import a_house

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def house(stack):
    with a_house(stack) as made:
        yield made


def append(model, op, inputs, outputs, **attributes):
    model.graph.node.append(helper.make_node(op, inputs, outputs, **attributes))


def behind(model, op, *inputs, **attributes):
    """Put a node between what the model answers and its output."""
    [output] = model.graph.output
    [answering] = [node for node in model.graph.node if output.name in node.output]
    answering.output[0] = "before"
    append(model, op, ["before", *inputs], [output.name], **attributes)


def constant(model, name, values):
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))


def crashes_at_load(model):
    """Structurally sound, and of an operator that nobody has."""
    model.opset_import.append(helper.make_opsetid("nowhere", 1))
    append(model, "NoSuch", ["x"], ["unused"], domain="nowhere")
    behind(model, "Identity")


def answers_nan(model):
    constant(model, "nan", np.float32(np.nan))
    behind(model, "Add", "nan")


def answers_in_another_shape(model):
    behind(model, "ReduceMean", keepdims=1)


def makes_a_terabyte(model):
    """2**40 elements, out of the row itself: nobody can count them before it runs."""
    constant(model, "sides", np.array([1 << 20, 1 << 20], np.int64))
    append(model, "ReduceMean", ["filled"], ["single"], keepdims=1)
    append(model, "Expand", ["single", "sides"], ["huge"])
    append(model, "ReduceMax", ["huge"], ["largest"], keepdims=1)
    append(model, "Mul", ["largest", "zero"], ["nothing"])
    behind(model, "Add", "nothing")


def reads_another_file(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (crashes_at_load, "model.onnx: "),
        (answers_nan, "expected a probability in [0, 1], found nan"),
        (answers_in_another_shape, "expected 2 rows, found shape"),
        (makes_a_terabyte, "onnxruntime: "),
        (reads_another_file, "expected all data inside the file"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_a_bad_version_is_stopped_before_it_is_ready(house, spoil, said):
    model = house.model()
    model.live()
    secret = Path(house.folder, "secret")
    secret.write_bytes(b"\0" * 64)
    linked = Path(house.folder, "runtime", "files", "weights")
    if not linked.exists():
        os.link(secret, linked)
    version = model.plant(spoil)
    shown = model.reach(version, "aborted")
    assert shown["reason"].startswith("warm-up: ")
    assert said in shown["reason"]
    assert str(house.folder) not in shown["reason"]
    assert shown["epoch"] == 1
    assert model.answered_by() == 1
    assert model.ask(version=version).status_code == 404
    assert model.show(1)["stage"] == "completed"


def fails_on_rows_it_was_not_tried_with(model):
    """Golden rows are at most 1."""
    constant(model, "limit", np.float32(5))
    append(model, "Sub", ["limit", "x"], ["left"])
    append(model, "Sqrt", ["left"], ["root"])
    append(model, "Mul", ["root", "zero"], ["nothing"])
    behind(model, "Add", "nothing")


def works_ten_times_longer(model):
    """The answer stays, behind a hundred products of matrices."""
    side = 500
    constant(model, "spread", np.ones((1, side), np.float32))
    constant(model, "square", np.full((side, side), 1.0 / side, np.float32))
    append(model, "MatMul", ["filled", "spread"], ["work0"])
    rounds = 100
    for step in range(rounds):
        append(model, "MatMul", [f"work{step}", "square"], [f"work{step + 1}"])
    append(model, "ReduceMean", [f"work{rounds}"], ["mean"], axes=[1], keepdims=1)
    append(model, "Mul", ["mean", "zero"], ["nothing"])
    behind(model, "Add", "nothing")


def scores_everything_far_higher(model):
    """As it answers the golden rows, it is no other than the champion."""
    constant(model, "limit", np.float32(5))
    constant(model, "more", np.float32(0.5))
    append(model, "Greater", ["x", "limit"], ["large"])
    append(model, "Where", ["large", "more", "zero"], ["added"])
    behind(model, "Sub", "added")


@pytest.mark.parametrize(
    ("spoil", "asking", "said"),
    [
        (fails_on_rows_it_was_not_tried_with, 9.0, "error rate: expected at most 1.00%"),
        (works_ten_times_longer, 0.5, "latency: expected a p99 ratio of at most 2"),
        (scores_everything_far_higher, 9.0, "scores: expected a mean within 0.3"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_a_version_that_is_bad_in_use_is_stopped_in_its_shadow(house, spoil, asking, said):
    model = house.model(shadow=100_000)
    model.live()
    version = model.plant(spoil)
    model.reach(version, "shadow")
    shown = model.reach(version, "aborted", asking=asking)
    assert shown["reason"].startswith(said)
    assert shown["measured"]["candidate_rows"] > 0
    assert model.answered_by() == 1
    status, said = house.type("rollout", "show", model.name, str(version))
    assert status == 0
    assert shown["reason"] in said
    assert "candidate_p99_us" in said
