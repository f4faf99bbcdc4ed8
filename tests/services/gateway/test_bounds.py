"""What a request may hold is bounded before it is read, and so is what refusing it costs."""

import json
import re
import time
import tracemalloc

import pytest

from gyral.contracts.deployment import Datatype, Input
from gyral.gateway.api.contents import asked_of
from gyral.gateway.api.messages import Messages
from gyral.gateway.api.questions import understand
from gyral.gateway.api.requests import read_request
from gyral.gateway.api.tensors import BadRequestError

from .asking import NUMERIC, expected

MESSAGES = Messages()
MANY = 19_000


def message(content):
    """An inference request's."""
    return MESSAGES.read("ModelInferRequest", content)


def tensors(names, **tensor):
    usual = {"shape": [1], "datatype": "BOOL", "data": [True]}
    return [{"name": name, **usual, **tensor} for name in names]


def refused_after_s(asked, known):
    """How long it took to refuse, at best."""
    found = []
    for _ in range(3):
        began = time.perf_counter()
        with pytest.raises(BadRequestError):
            understand(asked, known)
        found.append(time.perf_counter() - began)
    return min(found)


def test_an_input_that_comes_twice_costs_no_more_than_one_that_is_unknown():
    names = [f"f{number}" for number in range(MANY)]
    known = expected(tuple(Input(name=name, datatype=Datatype.BOOL) for name in names))

    def asked(last):
        body = json.dumps({"inputs": tensors([*names, last])}).encode()
        return read_request(body, None, known)

    assert refused_after_s(asked(names[-1]), known) < 20 * refused_after_s(asked("x"), known)
    with pytest.raises(BadRequestError, match="f3: expected an input once; found it 2 times"):
        understand(asked("f3"), known)


FEW = f"inputs: expected at most {len(NUMERIC) + 3}, .*; found 8"


@pytest.mark.parametrize("shape", [[1], [0]])
def test_more_inputs_than_a_model_can_have_are_refused_unread(shape):
    sent = tensors("abcdefgh", shape=shape)
    with pytest.raises(BadRequestError, match=FEW):
        read_request(json.dumps({"inputs": sent}).encode(), None, expected())
    bare = [{"name": each["name"], "datatype": "BOOL", "shape": shape} for each in sent]
    content = MESSAGES.write("ModelInferRequest", inputs=bare, raw_input_contents=[b"\2"] * 8)
    with pytest.raises(BadRequestError, match=FEW):
        asked_of(message(content), len(content), expected())


CELLS = 256 * (len(NUMERIC) + 3)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ([900_000], "x: expected 1 to 256 rows; found [900000]"),
        ([1, 900_000], f"inputs: expected shapes of at most {CELLS} elements together"),
        ([200, 4_500], f"inputs: expected shapes of at most {CELLS} elements together"),
    ],
)
def test_cells_that_no_request_can_hold_are_refused_before_they_are_expanded(shape, said):
    named = {"name": "x", "datatype": "BOOL", "shape": shape}
    bools = [True] * 900_000
    typed = MESSAGES.write(
        "ModelInferRequest", inputs=[{**named, "contents": {"bool_contents": bools}}]
    )
    raw = MESSAGES.write(
        "ModelInferRequest", inputs=[named], raw_input_contents=[b"\1" * 900_000]
    )
    for content in (typed, raw):
        question = message(content)
        tracemalloc.start()
        with pytest.raises(BadRequestError, match=re.escape(said)):
            asked_of(question, len(content), expected())
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak_bytes < 500_000  # a list of them takes seven million
    head = json.dumps({"inputs": [{**named, "parameters": {"binary_data_size": 900_000}}]})
    body = head.encode() + b"\1" * 900_000
    with pytest.raises(BadRequestError, match=re.escape(said)):
        read_request(body, b"%d" % len(head), expected())
