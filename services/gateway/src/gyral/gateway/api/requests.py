"""An inference request off the wire: JSON, or JSON with tensors in binary behind it."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from gyral.gateway.api.asked import (
    BOTH,
    OUTPUTS,
    Asked,
    Expected,
    Wanted,
    check_cells,
    check_count,
    outputs,
)
from gyral.gateway.api.binary import Sent, from_raw
from gyral.gateway.api.tensors import BadRequestError, Parameters, Tensor
from gyral.kit.duplicates import may_repeat_keys, reject_duplicate_keys

HEADER = b"inference-header-content-length"
"""Says how many bytes of a body are JSON; the tensors lie behind them."""
_SIZE = "binary_data_size"
_REQUEST: Mapping[str, type] = {"binary_data_output": bool}
_INPUT: Mapping[str, type] = {_SIZE: int}
_OUTPUT: Mapping[str, type] = {"binary_data": bool}
_CONTENT_TYPES = ("np", "pd", "str")
"""What codecs say of tensors that are what their datatypes say anyway."""
_TENSOR_KEYS = len(("name", "shape", "datatype", "data"))
MAX_ID = 256
_LENGTH_DIGITS = 10


class Output(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An output the client asks for."""

    name: str
    parameters: dict[str, str | bool | int | float | None] | None = None


class InferRequest(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The JSON of a request; what is in none of its places is refused, never ignored."""

    inputs: list[Tensor]
    id: Annotated[str, msgspec.Meta(max_length=MAX_ID)] | None = None
    outputs: list[Output] | None = None
    parameters: dict[str, str | bool | int | float | None] | None = None


_decode = msgspec.json.Decoder(InferRequest).decode


def read_request(body: bytes, header: bytes | None, expected: Expected) -> Asked:
    """Return the request a body holds.

    Args:
        body: JSON, or with a header JSON and bytes.
        header: how many bytes of it are JSON; None when all are.
        expected: what it may bring.

    Raises:
        BadRequestError: it is no request of the protocol.
        Refusal: an object of it has a key twice.
    """
    if header is None:
        request = _decoded(body, expected)
        return Asked(request.id, _only_json(request), _outputs(request), len(body))
    length = _length(header, len(body))
    request = _decoded(body[:length], expected)
    check_cells([each for each in request.inputs if not each.size_bytes], expected)
    inputs = _with_binary(request, memoryview(body)[length:])
    return Asked(request.id, inputs, _outputs(request), len(body))


def check_parameters(
    where: str, given: Parameters | None, known: Mapping[str, type]
) -> Parameters:
    """Return parameters that the gateway obeys.

    Raises:
        BadRequestError: one is unknown, which would have been ignored, or of another type.
    """
    for name, value in (given or {}).items():
        if name == "content_type" and value in _CONTENT_TYPES:
            continue
        if name not in known:
            allowed = ", ".join((*known, f"content_type ({', '.join(_CONTENT_TYPES)})"))
            raise BadRequestError(
                f"{where}: expected no parameter but {allowed}; found {name[:80]!r} as"
                f" {value!r:.40}"
            )
        if type(value) is not known[name]:
            raise BadRequestError(
                f"{where}.{name}: expected {known[name].__name__}; found {value!r:.40}"
            )
    return given or {}


def _decoded(body: bytes, expected: Expected) -> InferRequest:
    try:
        request = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(str(error)) from None
    except RecursionError:
        raise BadRequestError(
            "expected an inference request; found JSON nested too deeply"
        ) from None
    check_count(request.inputs, expected)
    if may_repeat_keys(body, _keys_read(request)):
        reject_duplicate_keys(body)
    return request


def _keys_read(request: InferRequest) -> int:
    """Return how many keys were read."""
    keys = 1 + (request.id is not None) + _TENSOR_KEYS * len(request.inputs)
    for tensor in request.inputs:
        if tensor.parameters is not None:  # with a size there are no data
            keys += 1 + len(tensor.parameters) - (_SIZE in tensor.parameters)
    if request.parameters is not None:
        keys += 1 + len(request.parameters)
    if request.outputs is not None:
        keys += 1 + len(request.outputs)
        keys += sum(1 + len(each.parameters) for each in request.outputs if each.parameters)
    return keys


def _only_json(request: InferRequest) -> Sequence[Tensor]:
    for tensor in request.inputs:
        if tensor.parameters is not None:
            check_parameters(f"inputs.{tensor.name[:80]}", tensor.parameters, {})
    return request.inputs


def _length(header: bytes, size: int) -> int:
    digits = header.isdigit() and len(header) <= _LENGTH_DIGITS
    length = int(header) if digits else -1
    if not 0 < length <= size:
        why = (
            "as a body of raw bytes alone says nothing of which input they are"
            if length == 0
            else f"within the {size} bytes of the body"
        )
        raise BadRequestError(
            "inference-header-content-length: expected the number of bytes of JSON,"
            f" {why}; found {header[:20].decode('latin-1')!r}"
        )
    return length


def _with_binary(request: InferRequest, raw: memoryview) -> Sequence[Sent]:
    """Return all inputs, those in binary cut from the bytes in the order they are listed."""
    sent: list[Sent] = []
    at = 0
    for tensor in request.inputs:
        where = f"inputs.{tensor.name[:80]}"
        given = tensor.parameters or {}
        size = given.get(_SIZE)
        if len(given) > 1 or type(size) is not int:
            check_parameters(where, given, _INPUT)
        if not isinstance(size, int):
            sent.append(tensor)
            continue
        if tensor.size_bytes:
            raise BadRequestError(f"{where}: expected either data or {_SIZE}; found both")
        if not 0 <= size <= len(raw) - at:
            raise BadRequestError(
                f"{where}.{_SIZE}: expected at most the {len(raw) - at} bytes that are left;"
                f" found {str(size)[:40]}"
            )
        part = raw[at : at + size]
        sent.append(from_raw(tensor.name, tensor.shape, tensor.datatype, part))
        at += size
    if at != len(raw):
        raise BadRequestError(
            f"expected {at} bytes behind the JSON, as the inputs' {_SIZE} add up to; found"
            f" {len(raw)}"
        )
    return sent


def _outputs(request: InferRequest) -> tuple[Wanted, ...]:
    if request.parameters is None and request.outputs is None:
        return BOTH
    given = check_parameters("parameters", request.parameters, _REQUEST)
    binary = given.get("binary_data_output", False) is True
    named = [
        Wanted(each.name, _in_binary(each, default=binary)) for each in request.outputs or ()
    ]
    return outputs(named) or tuple(Wanted(name, binary) for name in OUTPUTS)


def _in_binary(output: Output, *, default: bool) -> bool:
    given = check_parameters(f"outputs.{output.name[:80]}", output.parameters, _OUTPUT)
    return given.get("binary_data", default) is True
