"""A request understood: rows, keys and times, and its features as one version reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from gyral.contracts.deployment import Share
from gyral.gateway.api.packed import PACKED, PackedColumn, unpacked
from gyral.gateway.api.tensors import (
    BadRequestError,
    InferRequest,
    Tensor,
    expect_rows,
    read_entity_keys,
    read_event_times,
    rows_of,
)
from gyral.gateway.domain.rows import Column
from gyral.kit.duplicates import may_repeat_keys, reject_duplicate_keys

ENTITY_KEY = "entity_key"
EVENT_TIME = "event_time"
OUTPUTS = ("probability", "prediction_id")
MAX_ENTRY_BYTES = 1_000_000
"""Largest entry of the prediction log: below what a Kafka broker accepts by default (1 MiB)."""
_TENSOR_KEYS = len(("name", "shape", "datatype", "data"))
_ENTRY_OVERHEAD_BYTES = 4096
_ROW_BYTES = 64
"""A row's probability, key and time where none was given, generously."""

Given: TypeAlias = Tensor | PackedColumn
"""An input as it came, until a version says how to read it."""

_decode = msgspec.json.Decoder(InferRequest).decode


class TooLargeError(ValueError):
    """The request is well-formed and more than the gateway takes."""


@dataclass(frozen=True, slots=True)
class Features:
    """What one version reads of a request."""

    columns: list[Column]
    json: dict[str, msgspec.Raw | Sequence[float | str | None]]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a question to a model may and must bring."""

    inputs: frozenset[str]
    """What any version of the model reads."""
    order: tuple[str, ...] | None
    """The same in the order of whoever will answer; None when that is not known yet."""
    event_clock: bool
    """True when each row must say its event time."""
    latest_us: int
    """The latest event time taken, in µs UTC."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request before a version is chosen: what does not depend on the version is checked."""

    client_id: str | None
    rows: int
    tensors: Mapping[str, Given]
    first_entity_key: str | None
    entity_keys: msgspec.Raw
    event_times: msgspec.Raw
    outputs: tuple[str, ...]


def understand(body: bytes, expected: Expected) -> Question:
    """Return the request a body of JSON holds.

    Raises:
        BadRequestError: it is no request of the protocol, or not for this model.
        Refusal: an object of it has a key twice.
        TooLargeError: its log entry would be larger than MAX_ENTRY_BYTES.
    """
    request = _decoded(body)
    tensors = _by_name(request.inputs, expected.inputs)
    packed = tensors.get(PACKED) if PACKED not in expected.inputs else None
    given: Mapping[str, Given] = tensors
    if packed is None:
        rows = rows_of(request.inputs)
    else:
        given = _unpacked(packed, tensors, expected.order)
        rows = packed.shape[0]
    keys = tensors.get(ENTITY_KEY) if ENTITY_KEY not in expected.inputs else None
    times = tensors.get(EVENT_TIME) if EVENT_TIME not in expected.inputs else None
    if expected.event_clock and times is None:
        raise BadRequestError(
            f"{EVENT_TIME}: expected an INT64 input (µs UTC), as the model is on an event"
            " clock; found none"
        )
    _check_size(given, rows)
    entity_keys, keys_json = read_entity_keys(keys, rows) if keys else ([None], _nulls(rows))
    return Question(
        client_id=request.id,
        rows=rows,
        tensors=given,
        first_entity_key=entity_keys[0],
        entity_keys=keys_json,
        event_times=read_event_times(
            times, rows, required=expected.event_clock, latest_us=expected.latest_us
        )
        if times
        else _nulls(rows),
        outputs=_outputs(request),
    )


def features_for(question: Question, share: Share) -> Features:
    """Return the features as this version reads them.

    Raises:
        BadRequestError: one is missing, or is not what the version declares.
    """
    columns: list[Column] = []
    json: dict[str, msgspec.Raw | Sequence[float | str | None]] = {}
    for declared in share.inputs:
        tensor = question.tensors.get(declared.name)
        if tensor is None:
            raise BadRequestError(
                f"{declared.name}: expected an input of type {declared.datatype}, as version"
                f" {share.version} reads it; found none"
            )
        reading = tensor.read(declared, question.rows)
        columns.append(reading.column)
        json[declared.name] = reading.json
    return Features(columns, json)


def _decoded(body: bytes) -> InferRequest:
    try:
        request = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(str(error)) from None
    except RecursionError:
        raise BadRequestError(
            "expected an inference request; found JSON nested too deeply"
        ) from None
    if may_repeat_keys(body, _keys_read(request)):
        reject_duplicate_keys(body)
    return request


def _keys_read(request: InferRequest) -> int:
    """Return how many keys were read: of a request that says nothing else, these are all."""
    outputs = request.outputs
    own = 1 + (request.id is not None) + (outputs is not None)
    return own + _TENSOR_KEYS * len(request.inputs) + len(outputs or ())


def _by_name(tensors: list[Tensor], known_inputs: frozenset[str]) -> dict[str, Tensor]:
    named = {tensor.name: tensor for tensor in tensors}
    if len(named) != len(tensors):
        names = [tensor.name for tensor in tensors]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRequestError(
            f"{twice[:80]}: expected an input once; found it {names.count(twice)} times"
        )
    unknown = named.keys() - known_inputs - {ENTITY_KEY, EVENT_TIME, PACKED}
    if unknown:
        raise BadRequestError(
            f"{min(unknown)[:80]}: expected one of {', '.join(sorted(known_inputs))},"
            f" {ENTITY_KEY}, {EVENT_TIME}; found an input no version of the model reads"
        )
    return named


def _unpacked(
    packed: Tensor, tensors: dict[str, Tensor], order: tuple[str, ...] | None
) -> Mapping[str, Given]:
    """Return the packed features and what came beside them, which may be no feature."""
    beside = {name: tensor for name, tensor in tensors.items() if tensor is not packed}
    single = beside.keys() - {ENTITY_KEY, EVENT_TIME}
    if single:
        raise BadRequestError(
            f"{PACKED}: expected either all features in it or one tensor a feature; found"
            f" {min(single)[:80]} as well"
        )
    if order is None:
        raise BadRequestError(
            f"{PACKED}: expected one tensor a feature, as the model's versions read different"
            " ones, or a version in the path; found them packed"
        )
    columns = unpacked(packed, order)
    for tensor in beside.values():
        expect_rows(tensor, packed.shape[0])
    return {**columns, **beside}


def _check_size(given: Mapping[str, Given], rows: int) -> None:
    content = sum(each.size_bytes + len(name) + 8 for name, each in given.items())
    size = content + rows * _ROW_BYTES + _ENTRY_OVERHEAD_BYTES
    if size > MAX_ENTRY_BYTES:
        raise TooLargeError(
            f"inputs: expected at most {MAX_ENTRY_BYTES} bytes to log; found about {size}: send"
            " fewer rows a request"
        )


def _outputs(request: InferRequest) -> tuple[str, ...]:
    if request.outputs is None:
        return OUTPUTS
    wanted = tuple(output.name for output in request.outputs)
    for name in wanted:
        if name not in OUTPUTS:
            raise BadRequestError(
                f"outputs: expected {' or '.join(OUTPUTS)}; found {name[:80]!r}"
            )
    return wanted or OUTPUTS


def _nulls(rows: int) -> msgspec.Raw:
    return msgspec.Raw(b"[" + b",".join([b"null"] * rows) + b"]")
