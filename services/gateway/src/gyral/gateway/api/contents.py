"""A `ModelInferRequest` read as every other question, and its answer written."""

from collections.abc import Mapping, Sequence
from typing import cast

import msgspec

from gyral.gateway.api.answers import Output, output_of
from gyral.gateway.api.asked import BOTH, Asked, Expected, Wanted, check_cells, outputs
from gyral.gateway.api.binary import Sent, elements, from_cells, from_raw, text, to_raw
from gyral.gateway.api.datatypes import KINDS
from gyral.gateway.api.front import Said
from gyral.gateway.api.messages import InferRequest, Input, Messages, Plain, parameters_of
from gyral.gateway.api.requests import MAX_ID, check_parameters
from gyral.gateway.api.tensors import BadRequestError, Tensor

_FIELDS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where a datatype's elements are; FP16 and BF16 have raw contents only."""
_encode = msgspec.json.Encoder().encode


def asked_of(request: InferRequest, size_bytes: int, expected: Expected) -> Asked:
    """Return what a message asks.

    Raises:
        BadRequestError: it contradicts itself, or asks for what the gateway does not do.
    """
    check_parameters("parameters", parameters_of(request.parameters), {})
    if len(request.id) > MAX_ID:
        raise BadRequestError(
            f"id: expected at most {MAX_ID} characters; found {len(request.id)}"
        )
    check_cells(request.inputs, expected)
    for tensor in request.inputs:
        where = f"inputs.{tensor.name[:80]}"
        check_parameters(where, parameters_of(tensor.parameters), {})
    for output in request.outputs:
        where = f"outputs.{output.name[:80]}"
        check_parameters(where, parameters_of(output.parameters), {})
    named = outputs([Wanted(output.name) for output in request.outputs])
    return Asked(request.id or None, _inputs(request), named or BOTH, size_bytes)


def answer_of(messages: Messages, said: Said, *, raw: bool) -> bytes:
    """Return the answer as a message; with raw contents when the question had them."""
    probabilities = said.answer.probabilities
    found = [
        output_of(wanted.name, said.asking.request_id, probabilities)
        for wanted in said.question.outputs
    ]
    behind = [to_raw(output.datatype, output.data) for output in found] if raw else []
    return messages.write(
        "ModelInferResponse",
        model_name=said.asking.plan.route.model,
        model_version=str(said.answer.share.version),
        id=said.question.client_id or "",
        outputs=[
            {
                "name": output.name,
                "datatype": output.datatype.value,
                "shape": output.shape,
                **({} if raw else {"contents": _contents(output)}),
            }
            for output in found
        ],
        raw_output_contents=behind,
    )


def _contents(output: Output) -> Mapping[str, Sequence[Plain]]:
    cells = [cell.encode() if isinstance(cell, str) else cell for cell in output.data]
    return {_FIELDS[output.datatype]: cells}


def _inputs(request: InferRequest) -> Sequence[Sent]:
    raw = request.raw_input_contents
    if not raw:
        return [_typed(tensor) for tensor in request.inputs]
    if len(raw) != len(request.inputs):
        raise BadRequestError(
            f"raw_input_contents: expected one for each of {len(request.inputs)} inputs; found"
            f" {len(raw)}"
        )
    for tensor in request.inputs:
        if tensor.contents.ListFields():
            raise BadRequestError(
                f"inputs.{tensor.name[:80]}: expected either contents or raw_input_contents;"
                " found both"
            )
    return [
        from_raw(tensor.name, [*tensor.shape], tensor.datatype, memoryview(content))
        for tensor, content in zip(request.inputs, raw, strict=True)
    ]


def _typed(tensor: Input) -> Sent:
    name, shape, datatype = tensor.name, [*tensor.shape], tensor.datatype
    cells = _cells(tensor)
    if datatype == "BYTES":
        texts = [text(name, cell) for cell in cast("Sequence[bytes]", cells)]
        return Tensor(name, shape, datatype, msgspec.Raw(_encode(texts)))
    numbers, kind = [*cast("Sequence[int]", cells)], KINDS[datatype]
    if kind.whole and numbers and not kind.least <= min(numbers) <= max(numbers) <= kind.most:
        raise BadRequestError(
            f"{name[:80]}: expected {datatype}, which is {kind.least} to {kind.most}; found"
            f" {min(numbers)} to {max(numbers)}"
        )
    return from_cells(name, shape, datatype, [*numbers])


def _cells(tensor: Input) -> Sequence[Plain]:
    """Return a tensor's elements: in its datatype's field, as many as its shape says."""
    field = _FIELDS.get(tensor.datatype)
    if field is None:
        raise BadRequestError(
            f"{tensor.name[:80]}: expected one of {', '.join(_FIELDS)}, or raw_input_contents;"
            f" found {tensor.datatype[:20]!r}"
        )
    cells: Sequence[Plain] = ()
    for found, values in tensor.contents.ListFields():
        if found.name != field:
            raise BadRequestError(
                f"{tensor.name[:80]}: expected {field}, where {tensor.datatype} has its"
                f" elements; found {found.name}"
            )
        cells = values
    count = elements(tensor.name, tensor.shape)
    if len(cells) != count:
        raise BadRequestError(
            f"{tensor.name[:80]}: expected {count} elements in {field}, as its shape says;"
            f" found {len(cells)}"
        )
    return cells
