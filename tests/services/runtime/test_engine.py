import array
import json
import math
import sys
import threading
from contextlib import suppress
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gyral.kit.frames import Batch, Rows
from gyral.runtime.engine import (
    DamagedModelError,
    PredictionError,
    Predictor,
    UnusableModelError,
)
from gyral.runtime.engine.shelf import NotLoadedError, Shelf, Version
from gyral.runtime.engine.trial import try_out

from .conftest import ROWS

COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
LIMITS = {"memory_bytes": 8 << 30, "timeout_s": 60}


async def tried(folder, **limits):
    return str(await try_out(folder, **{**LIMITS, **limits}))


def laid_out(folder, **files):
    names = {"onnx": "model.onnx", "manifest": "manifest.json", "golden": "golden.json"}
    for part, content in files.items():
        (folder / names[part]).write_bytes(content)
    return folder


def with_files(folder, files, **others):
    parts = {part: getattr(files, part) for part in ("onnx", "manifest", "golden")}
    return laid_out(folder, **{**parts, **others})


def test_a_predictor_gives_the_probability_worked_by_hand(files, logistic):
    found = Predictor.of(files.manifest, files.onnx).predict_lists(COLUMNS)
    assert found.dtype == np.float64
    assert found.tolist() == pytest.approx([logistic.probability(r) for r in ROWS], abs=1e-6)
    assert found[0] == pytest.approx(0.668188, abs=1e-6)  # the sigmoid of 0.7


def test_how_rows_are_split_into_calls_changes_nothing(files):
    predictor = Predictor.of(files.manifest, files.onnx)
    many = {name: cells * 70 for name, cells in COLUMNS.items()}
    assert (
        predictor.predict_lists(many).tolist() == predictor.predict_lists(COLUMNS).tolist() * 70
    )


def test_what_onnxruntime_says_names_no_path(files):
    with pytest.raises(UnusableModelError) as refused:
        Predictor.of(files.manifest, b"no onnx")
    assert "model.onnx: " in str(refused.value)
    assert "/" not in str(refused.value)


def test_an_absent_column_is_named(files):
    predictor = Predictor.of(files.manifest, files.onnx)
    with pytest.raises(PredictionError, match="kind"):
        predictor.predict_lists({"x": [1.0], "on": [True]})


def test_a_model_that_answers_no_probability_is_an_error_and_no_answer(logistic, files):
    model = onnx.load_model_from_string(files.onnx)
    model.graph.node[-1].op_type = "Identity"  # the sigmoid is gone: any number comes out
    predictor = Predictor.of(files.manifest, model.SerializeToString())
    with pytest.raises(PredictionError, match=r"row 0: expected a probability in \[0, 1\]"):
        predictor.predict_lists({"x": [100.0], "kind": ["a"], "on": [False]})


def test_a_nan_between_probabilities_is_found(logistic, files):
    model = onnx.load_model_from_string(files.onnx)
    model.graph.node[-1].op_type = "Sqrt"  # of a negative number it is NaN
    predictor = Predictor.of(files.manifest, model.SerializeToString())
    at_0, slope = (math.log(odds / (1 - odds)) for odds in map(logistic_at(logistic), (0, 1)))
    slope -= at_0
    cells = [(wanted - at_0) / slope for wanted in (0.25, -1.0, 0.25)]
    columns: dict[str, list[object]] = {
        "x": [*cells],
        "kind": ["a"] * 3,
        "on": [False] * 3,
    }
    with pytest.raises(PredictionError, match=r"row 1: .*\[0, 1\], found nan"):
        predictor.predict_lists(columns)


def logistic_at(logistic):
    return lambda x: logistic.probability({"x": x, "kind": "a", "on": False})


@pytest.mark.parametrize(
    ("manifest", "onnx_bytes", "named"),
    [(b"{}", None, "manifest.json"), (None, b"no onnx", "model.onnx")],
)
def test_files_that_make_no_model_are_refused(files, manifest, onnx_bytes, named):
    with pytest.raises(UnusableModelError, match=named):
        Predictor.of(manifest or files.manifest, onnx_bytes or files.onnx)


async def test_a_sound_version_passes_its_trial(tmp_path, files):
    assert await tried(with_files(tmp_path, files)) == "None"


async def test_other_golden_answers_fail_the_trial(tmp_path, files):
    golden = json.loads(files.golden)
    golden["probabilities"][1] += 2e-5
    fault = await tried(with_files(tmp_path, files, golden=json.dumps(golden).encode()))
    assert fault.startswith("golden row 1: expected")


def external(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "secret"


def external_in_a_branch(model):
    tensor = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    branch = helper.make_graph([], "branch", [], [], [tensor])
    node = helper.make_node("If", ["zero"], ["unused"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)


@pytest.mark.parametrize("spoil", [external, external_in_a_branch])
async def test_external_data_are_refused_wherever_they_hide(tmp_path, files, spoil):
    model = onnx.load_model_from_string(files.onnx)
    spoil(model)
    (tmp_path / "secret").write_bytes(b"\0" * 64)
    fault = await tried(with_files(tmp_path, files, onnx=model.SerializeToString()))
    assert "expected all data inside the file" in fault


async def test_what_onnx_objects_to_is_refused(tmp_path, files):
    model = onnx.load_model_from_string(files.onnx)
    model.graph.node[0].op_type = "NoSuchOperator"
    fault = await tried(with_files(tmp_path, files, onnx=model.SerializeToString()))
    assert fault.startswith("model.onnx: ")


async def test_a_trial_that_takes_too_much_is_ended(tmp_path, files):
    laid = with_files(tmp_path, files)
    starved = await tried(laid, memory_bytes=100 << 20)
    assert starved != "None"
    late = await tried(laid, timeout_s=0.01)
    assert late == "trial: expected it to end within 0.01 s; found it still running"


def rows(picked):
    numbers = [np.nan if row["x"] is None else row["x"] for row in picked]
    return Rows(
        len(picked),
        [
            array.array("d", numbers).tobytes(),
            [row["kind"] for row in picked],
            [row["on"] for row in picked],
        ],
    )


def version_of(files):
    """A version on disk."""

    def load():
        return Predictor.of(files.manifest, files.onnx)

    return Version(files.sha256, load().memory_bytes, load)


def shelved(*slots, files, room=100):
    """A shelf with room in memory for so many of these versions."""
    version = version_of(files)
    shelf = Shelf(memory_bytes=room * version.memory_bytes)
    for slot in slots:
        shelf.put(slot, version, version.load())
    return shelf


NAMES = ("x", "kind", "on")


def test_requests_joined_in_a_batch_are_answered_as_they_would_be_alone(files):
    shelf = shelved("m@1", files=files)
    alone = b"".join(
        shelf.answer(Batch("m@1", files.sha256, NAMES, [rows([row])])) for row in ROWS
    )
    joined = Batch("m@1", files.sha256, NAMES, [rows(ROWS[:1]), rows(ROWS[1:])])
    assert shelf.answer(joined) == alone


def test_other_bytes_than_those_asked_for_never_answer(files):
    shelf = Shelf(memory_bytes=1 << 30)
    batch = Batch("m@1", "0" * 64, NAMES, [rows(ROWS)])
    with pytest.raises(NotLoadedError, match="found nothing"):
        shelf.answer(batch)
    shelf = shelved("m@1", files=files)
    with pytest.raises(NotLoadedError, match=files.sha256[:12]):
        shelf.answer(batch)
    shelf.drop("m@1")
    with pytest.raises(NotLoadedError, match="found nothing"):
        shelf.answer(batch)


def test_who_was_not_asked_longest_makes_room_and_answers_alike_when_woken(files):
    shelf = shelved("a@1", "b@1", files=files, room=2)

    def ask(slot):
        return shelf.answer(Batch(slot, files.sha256, NAMES, [rows(ROWS)]))

    before = ask("a@1")
    version = version_of(files)
    shelf.put("c@1", version, version.load())  # b@1 was not asked since it came
    assert [shelf.awake(slot) for slot in ("a@1", "b@1", "c@1")] == [True, False, True]
    assert ask("b@1") == before
    assert [shelf.awake(slot) for slot in ("a@1", "b@1", "c@1")] == [False, True, True]


def test_a_version_larger_than_the_budget_answers_alone(files):
    shelf = shelved("a@1", "b@1", files=files, room=0.5)
    for slot in ("a@1", "b@1", "a@1"):
        shelf.answer(Batch(slot, files.sha256, NAMES, [rows(ROWS)]))
        assert [shelf.awake(each) for each in ("a@1", "b@1")] == [slot == "a@1", slot == "b@1"]


def test_whether_a_slot_holds_bytes_is_told_without_waking_it(files):
    shelf = shelved("a@1", "b@1", files=files, room=1)
    assert shelf.answer(Batch("a@1", files.sha256, NAMES, [])) == b""
    assert [shelf.awake(slot) for slot in ("a@1", "b@1")] == [False, True]
    with pytest.raises(NotLoadedError, match=files.sha256[:12]):
        shelf.answer(Batch("a@1", "0" * 64, NAMES, []))


def test_a_predictor_is_never_taken_for_another_version_of_its_slot(logistic, files):
    other = replace(logistic, bias=2.0).files(ROWS)
    shelf = shelved("m@1", files=files)
    batch = Batch("m@1", files.sha256, NAMES, [rows(ROWS)])
    expected = shelf.answer(batch)
    both = [(each, each.load()) for each in (version_of(other), version_of(files))]
    answers = set()
    ended = threading.Event()

    def ask():
        while not ended.is_set():
            with suppress(NotLoadedError):
                answers.add(shelf.answer(batch))

    asking = [threading.Thread(target=ask) for _ in range(3)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in asking:
            thread.start()
        for _ in range(3000):
            for version, predictor in both:
                shelf.put("m@1", version, predictor)
    finally:
        ended.set()
        sys.setswitchinterval(before)
        for thread in asking:
            thread.join()
    assert answers <= {expected} == {shelf.answer(batch)}


@pytest.mark.parametrize(
    "passing",
    [
        OSError(24, "Too many open files", "/state/files/0"),
        MemoryError(),
        UnusableModelError("model.onnx: bad allocation"),
    ],
)
def test_what_passes_while_a_version_is_woken_does_not_lose_it(files, passing):
    sound = version_of(files)
    failing = [passing]

    def load():
        if failing:
            raise failing.pop()
        return sound.load()

    shelf = Shelf(memory_bytes=sound.memory_bytes)
    shelf.put("a@1", replace(sound, load=load), sound.load())
    shelf.put("b@1", sound, sound.load())
    batch = Batch("a@1", files.sha256, NAMES, [rows(ROWS)])
    with pytest.raises(NotLoadedError, match="a@1: expected to bring it back") as told:
        shelf.answer(batch)
    assert "/" not in str(told.value)
    assert shelf.fault("a@1") is None
    assert shelf.answer(batch)


def test_a_version_that_cannot_be_woken_says_why_until_it_is_put_anew(files):
    sound = version_of(files)

    def gone():
        raise DamagedModelError("model.onnx: expected a cached file; found none")

    shelf = Shelf(memory_bytes=sound.memory_bytes)
    shelf.put("a@1", replace(sound, load=gone), sound.load())
    shelf.put("b@1", sound, sound.load())
    batch = Batch("a@1", files.sha256, NAMES, [rows(ROWS)])
    with pytest.raises(NotLoadedError, match=r"a@1: .* found them damaged"):
        shelf.answer(batch)
    assert shelf.fault("a@1") == "model.onnx: expected a cached file; found none"
    shelf.put("a@1", sound, sound.load())
    assert shelf.fault("a@1") is None
    assert shelf.answer(batch)
