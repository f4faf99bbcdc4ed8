"""How an answer reads: JSON, or JSON with its outputs in binary behind it."""

from collections.abc import Sequence

import msgspec

from gyral.contracts.deployment import Datatype
from gyral.gateway.api.asked import PROBABILITY
from gyral.gateway.api.binary import to_raw
from gyral.gateway.api.front import Said
from gyral.gateway.api.requests import HEADER
from gyral.gateway.domain.rows import MAX_ROWS

JSON = b"application/json"
BYTES = b"application/octet-stream"
_ROWS = tuple(f"-{row}" for row in range(MAX_ROWS))
_encode = msgspec.json.Encoder().encode


class Output(msgspec.Struct, gc=False):
    """One tensor of an answer."""

    name: str
    shape: list[int]
    datatype: Datatype
    data: Sequence[float] | Sequence[str]


class BinaryOutput(msgspec.Struct, gc=False):
    """One tensor of an answer whose elements lie behind the JSON."""

    name: str
    shape: list[int]
    datatype: Datatype
    parameters: dict[str, int]


class Answer(msgspec.Struct, gc=False, omit_defaults=True):
    """The body of a 200."""

    model_name: str
    model_version: str
    outputs: list[Output | BinaryOutput]
    id: str | None = None


class Body(msgspec.Struct, frozen=True, gc=False):
    """What is sent."""

    content: bytes
    content_type: bytes
    headers: list[tuple[bytes, bytes]]


def answer_body(said: Said) -> Body:
    """Return the answer as the protocol has it: a probability and a prediction id a row."""
    question, answer = said.question, said.answer
    request_id = said.asking.request_id
    outputs: list[Output | BinaryOutput] = []
    behind: list[bytes] = []
    for wanted in question.outputs:
        output = output_of(wanted.name, request_id, answer.probabilities)
        if wanted.binary:
            raw = to_raw(output.datatype, output.data)
            behind.append(raw)
            size = {"binary_data_size": len(raw)}
            outputs.append(BinaryOutput(output.name, output.shape, output.datatype, size))
        else:
            outputs.append(output)
    model, version = said.asking.plan.route.model, str(answer.share.version)
    json = _encode(Answer(model, version, outputs, question.client_id))
    if not behind:
        return Body(json, JSON, [])
    return Body(json + b"".join(behind), BYTES, [(HEADER, b"%d" % len(json))])


def output_of(name: str, request_id: str, probabilities: list[float]) -> Output:
    """Return one output in full."""
    shape = [len(probabilities)]
    if name == PROBABILITY:
        return Output(name, shape, Datatype.FP64, probabilities)
    return Output(name, shape, Datatype.BYTES, prediction_ids(request_id, shape[0]))


def prediction_ids(request_id: str, rows: int) -> list[str]:
    """Return the id of each row's prediction."""
    return [request_id + row for row in _ROWS[:rows]]
