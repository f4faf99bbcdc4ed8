"""Requests that no honest client makes: good ones, broken in one place or a few."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from gyral.contracts.deployment import Input

from .asking import raw
from .conftest import INPUTS, ROWS
from .door import MODEL

V2, PLAIN = f"/v2/models/{MODEL}/infer", f"/v1/models/{MODEL}:predict"
NUMBERS = (-1, 0, 1, 2, 3, 255, 256, 257, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 1.5)
WRONG: tuple[object, ...] = (
    None,
    True,
    "",
    "1",
    "\0",
    "a" * 300,
    1e308,
    -1e308,
    1e-320,
    [],
    {},
    [[1]],
    {"a": 1},
)
DATATYPES = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "BF16", "FP32", "FP64", "BYTES", "FP8", "fp32", "", "\U0001f4a3"),
)
TOKENS = (
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 5000, b'{"a":' * 3000),
    *(b"\xff\xfe", b"\\ud800", b"\0", b'"', b"}", b"]", b",", b"-", b"1.", b"01", b"'"),
)
NAMES = (*(each.name for each in INPUTS), "entity_key", "event_time", "features", "x", "", "\0")
LENGTHS = (-1, 0, 1, 3, 4, 5, 7, 8, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64)


@dataclass
class Draft:
    """A request that is still taken apart."""

    rng: random.Random
    body: dict[str, object]
    behind: list[bytes] = field(default_factory=list)
    path: str = V2

    def tensor(self) -> dict[str, object]:
        """Return one of its tensors."""
        inputs = self.body.get("inputs")
        found = self.rng.choice(inputs) if isinstance(inputs, list) and inputs else None
        return found if isinstance(found, dict) else {}

    def anything(self) -> object:
        """Return a value that is out of place nearly everywhere."""
        return deepcopy(self.rng.choice((*NUMBERS, *WRONG)))


@dataclass(frozen=True)
class Hostile:
    """One request as it goes over the wire."""

    path: str
    body: bytes
    header: bytes | None


def shape(draft):
    axes = [draft.rng.choice(NUMBERS) for _ in range(draft.rng.randrange(4))]
    draft.tensor()["shape"] = draft.rng.choice((axes, draft.anything()))


def datatype(draft):
    draft.tensor()["datatype"] = draft.rng.choice((*DATATYPES, draft.anything()))


def name(draft):
    draft.tensor()["name"] = draft.rng.choice((*NAMES, draft.anything()))


def cells(draft):
    count = draft.rng.choice((0, 1, 2, 3, 4, 300))
    some = [draft.anything() for _ in range(count)]
    draft.tensor()["data"] = draft.rng.choice((some, [some], [[cell] for cell in some]))


def one_cell(draft):
    data = draft.tensor().get("data")
    if isinstance(data, list) and data:
        data[draft.rng.randrange(len(data))] = draft.anything()


def parameters(draft):
    names = ("binary_data_size", "binary_data", "binary_data_output", "content_type", "x")
    of = draft.rng.choice((draft.body, draft.tensor()))
    of["parameters"] = {draft.rng.choice(names): draft.anything()}


def outputs(draft):
    names = ("probability", "prediction_id", "x", draft.anything())
    some = [{"name": draft.rng.choice(names)} for _ in range(draft.rng.randrange(4))]
    for output in some:
        if draft.rng.random() < 0.5:
            output["parameters"] = {"binary_data": draft.rng.choice((True, draft.anything()))}
    draft.body["outputs"] = draft.rng.choice((some, draft.anything()))


def member(draft):
    names = ("id", "inputs", "outputs", "parameters", "instances", "columns", "x")
    draft.body[draft.rng.choice(names)] = draft.anything()


def fewer(draft):
    inputs = draft.body.get("inputs")
    if isinstance(inputs, list) and inputs:
        inputs.pop(draft.rng.randrange(len(inputs)))


def twice(draft):
    inputs = draft.body.get("inputs")
    if isinstance(inputs, list):
        inputs.append(dict(draft.tensor()))


def size(draft):
    draft.tensor()["parameters"] = {"binary_data_size": draft.rng.choice(LENGTHS)}


def cut(draft):
    if draft.behind:
        place = draft.rng.randrange(len(draft.behind))
        content = draft.behind[place]
        draft.behind[place] = content[: draft.rng.randrange(len(content) + 1)]


def flip(draft):
    if draft.behind:
        place = draft.rng.randrange(len(draft.behind))
        content = bytearray(draft.behind[place])
        if content:
            content[draft.rng.randrange(len(content))] = draft.rng.randrange(256)
        draft.behind[place] = bytes(content)


def field_cell(draft):
    rows = draft.body.get("instances")
    if isinstance(rows, list) and rows and isinstance(rows[0], dict):
        rows[draft.rng.randrange(len(rows))][draft.rng.choice(NAMES)] = draft.anything()


BREAKS: tuple[Callable[[Draft], None], ...] = (
    *(shape, datatype, name, cells, one_cell, parameters, outputs, member, fewer, twice),
    *(size, cut, flip, field_cell, one_cell, field_cell),
)


def as_json(rng, declared):
    inputs: list[dict[str, object]] = [
        {
            "name": each.name,
            "shape": [3],
            "datatype": each.datatype.value,
            "data": [row[each.name] for row in ROWS],
        }
        for each in declared
    ]
    inputs.append({"name": "entity_key", "shape": [3], "datatype": "BYTES", "data": ["a"] * 3})
    inputs.append({"name": "event_time", "shape": [3], "datatype": "INT64", "data": [1, 2, 3]})
    return Draft(rng, {"inputs": inputs})


def as_binary(rng, declared):
    draft = Draft(rng, {"inputs": [], "parameters": {"binary_data_output": True}})
    inputs = draft.body["inputs"]
    assert isinstance(inputs, list)
    for each in declared:
        row = {**ROWS[0], "carrier": "AA"}
        content = raw(each.datatype.value, [row[each.name]])
        tensor = {"name": each.name, "shape": [1], "datatype": each.datatype.value}
        inputs.append({**tensor, "parameters": {"binary_data_size": len(content)}})
        draft.behind.append(content)
    return draft


def as_packed(rng, declared):
    width = len(declared)
    cells = [1 for _ in declared]
    tensor = {"name": "features", "shape": [1, width], "datatype": "FP32", "data": cells}
    return Draft(rng, {"inputs": [tensor]})


def as_fields(rng, declared):
    rows = [{each.name: row[each.name] for each in declared} for row in ROWS]
    return Draft(rng, {"instances": rows}, path=PLAIN)


FORMS = (as_json, as_binary, as_packed, as_fields)


def cases(declared: Sequence[Input], seed: int, count: int) -> Iterator[Hostile]:
    """Yield as many requests as wanted, the same for the same seed."""
    rng = random.Random(seed)
    for _ in range(count):
        draft = rng.choice(FORMS)(rng, declared)
        for _ in range(rng.randrange(4)):
            rng.choice(BREAKS)(draft)
        yield _sent(rng, draft)


def _sent(rng: random.Random, draft: Draft) -> Hostile:
    text = json.dumps(draft.body).encode()
    if rng.random() < 0.15:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(TOKENS) + text[at + rng.randrange(2) :]
    if rng.random() < 0.05:
        text = text[: rng.randrange(len(text))]
    header = b"%d" % len(text) if draft.behind else None
    if rng.random() < 0.1:
        lies = (*LENGTHS, len(text) - 1, len(text) + 1, "", "x", "1e3", "7 7", "+7")
        header = str(rng.choice(lies)).encode()
    return Hostile(draft.path, text + b"".join(draft.behind), header)
