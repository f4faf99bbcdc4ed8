"""Ten times more than can be answered: what still is, how late, and what is refused."""

import time
from collections.abc import Sequence
from http import HTTPStatus
from itertools import pairwise

import numpy as np
import onnx
import uvloop
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.bench.serving.flood import Answered, Pool, at_rate, back_to_back
from tests.bench.serving.model import FEATURES, Served
from tests.bench.serving.report import Overload
from tests.bench.serving.system import System

NAME = "bench-slow"
_TIMES = 10
_WIDTH, _LAYERS = 1024, 160
_OPSET, _IR_VERSION = 17, 9
_CONNECTIONS = 64
_POOL = 600
_WINDOW_S = 6.0
_PROBE_S = 0.5
_RECOVERY_S = 20.0
_NORMAL = 2.0
"""p99 counts as normal again up to so many times that at capacity."""


def slow_model() -> bytes:
    """Return a network of about two milliseconds a row: one layer's weights, used often."""
    rng = np.random.default_rng(2)
    first = rng.normal(size=(len(FEATURES), _WIDTH)) / 4
    middle = rng.normal(size=(_WIDTH, _WIDTH)) / np.sqrt(_WIDTH)
    last = rng.normal(size=(_WIDTH, 1)) / np.sqrt(_WIDTH)
    names = [f"h{at}" for at in range(_LAYERS + 1)]
    nodes = [helper.make_node("MatMul", ["x", "first"], [names[0]])]
    for before, after in pairwise(names):
        nodes.append(helper.make_node("MatMul", [before, "middle"], [f"{after}_"]))
        nodes.append(helper.make_node("Tanh", [f"{after}_"], [after]))
    nodes.append(helper.make_node("MatMul", [names[-1], "last"], ["y"]))
    nodes.append(helper.make_node("Sigmoid", ["y"], ["probabilities"]))
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", len(FEATURES)])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 1])],
        [
            numpy_helper.from_array(weights.astype(np.float32), name)
            for name, weights in (("first", first), ("middle", middle), ("last", last))
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    onnx.checker.check_model(model)
    file: bytes = model.SerializeToString()
    return file


def run(system: System, slow: Served) -> Overload:
    """Find the capacity, ask ten times that, then half of it until all is as before."""
    return uvloop.run(_run(system, slow))


async def _run(system: System, slow: Served) -> Overload:
    async with Pool(system.target(NAME, slow, 1), _POOL) as pool:
        await back_to_back(pool, _CONNECTIONS, _PROBE_S)
        calm = await back_to_back(pool, _CONNECTIONS, _WINDOW_S)
        capacity = _rate(calm, _WINDOW_S)
        p99_s = _p99_s(calm)
        flooded = await at_rate(pool, capacity * _TIMES, _WINDOW_S)
        recovery_s = await _recovery_s(pool, capacity / 2, p99_s * _NORMAL)
    served_p99_s = _p99_s([one for one in flooded if one.status == HTTPStatus.OK])
    others = [one for one in flooded if one.status != HTTPStatus.OK]
    refused = [
        one for one in others if one.status == HTTPStatus.TOO_MANY_REQUESTS and one.says_when
    ]
    return Overload(
        capacity_rps=round(capacity),
        offered_rps=round(len(flooded) / _WINDOW_S),
        goodput_rps=round(_rate(flooded, _WINDOW_S)),
        goodput_share=round(_rate(flooded, _WINDOW_S) / capacity, 3),
        served_p99_ms=round(served_p99_s * 1000, 1),
        p99_ratio=round(served_p99_s / p99_s, 2),
        refused_share=round(len(refused) / len(others), 4) if others else 1.0,
        recovery_s=round(recovery_s, 1),
    )


async def _recovery_s(pool: Pool, rate: float, normal_s: float) -> float:
    """Return seconds until a half-second in which all was answered, and in normal time."""
    began = time.monotonic()
    while time.monotonic() - began < _RECOVERY_S:
        probed = await at_rate(pool, rate, _PROBE_S)
        fine = all(one.status == HTTPStatus.OK for one in probed)
        if fine and _p99_s(probed) <= normal_s:
            return time.monotonic() - began - _PROBE_S
    raise RuntimeError(f"expected normal answers within {_RECOVERY_S} s after the overload")


def _rate(answers: Sequence[Answered], seconds: float) -> float:
    """Return how many were answered with 200 a second."""
    return sum(one.status == HTTPStatus.OK for one in answers) / seconds


def _p99_s(answers: Sequence[Answered]) -> float:
    taken: NDArray[np.float64] = np.array([one.seconds for one in answers])
    return float(np.quantile(taken, 0.99))
