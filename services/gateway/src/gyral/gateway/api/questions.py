"""A request understood: rows, keys and times, and its features as one version reads them."""

from dataclasses import dataclass

import msgspec

from gyral.contracts.deployment import Share
from gyral.gateway.api.tensors import (
    BadRequestError,
    InferRequest,
    Reading,
    Tensor,
    read_entity_keys,
    read_event_times,
    read_feature,
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

_decode = msgspec.json.Decoder(InferRequest).decode


class TooLargeError(ValueError):
    """The request is well-formed and more than the gateway takes."""


@dataclass(frozen=True, slots=True)
class Features:
    """What one version reads of a request."""

    columns: list[Column]
    json: dict[str, msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Question:
    """A request before a version is chosen: what does not depend on the version is checked."""

    client_id: str | None
    rows: int
    tensors: dict[str, Tensor]
    first_entity_key: str | None
    entity_keys: msgspec.Raw
    event_times: msgspec.Raw
    outputs: tuple[str, ...]


def understand(
    body: bytes, known_inputs: frozenset[str], *, event_clock: bool, latest_us: int
) -> Question:
    """Return the request a body holds.

    Args:
        body: JSON.
        known_inputs: what any version of the model reads.
        event_clock: True when each row must say its event time.
        latest_us: the latest event time taken, in µs UTC.

    Raises:
        BadRequestError: it is no request of the protocol, or not for this model.
        Refusal: an object of it has a key twice.
        TooLargeError: its log entry would be larger than MAX_ENTRY_BYTES.
    """
    request = _decoded(body)
    tensors = _by_name(request.inputs, known_inputs)
    rows = rows_of(request.inputs)
    keys = tensors.get(ENTITY_KEY) if ENTITY_KEY not in known_inputs else None
    times = tensors.get(EVENT_TIME) if EVENT_TIME not in known_inputs else None
    if event_clock and times is None:
        raise BadRequestError(
            f"{EVENT_TIME}: expected an INT64 input (µs UTC), as the model is on an event"
            " clock; found none"
        )
    _check_size(request.inputs, rows)
    entity_keys, keys_json = read_entity_keys(keys, rows) if keys else ([None], _nulls(rows))
    return Question(
        client_id=request.id,
        rows=rows,
        tensors=tensors,
        first_entity_key=entity_keys[0],
        entity_keys=keys_json,
        event_times=read_event_times(times, rows, required=event_clock, latest_us=latest_us)
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
    json: dict[str, msgspec.Raw] = {}
    for declared in share.inputs:
        tensor = question.tensors.get(declared.name)
        if tensor is None:
            raise BadRequestError(
                f"{declared.name}: expected an input of type {declared.datatype}, as version"
                f" {share.version} reads it; found none"
            )
        reading: Reading = read_feature(tensor, declared, question.rows)
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
    unknown = named.keys() - known_inputs - {ENTITY_KEY, EVENT_TIME}
    if unknown:
        raise BadRequestError(
            f"{min(unknown)[:80]}: expected one of {', '.join(sorted(known_inputs))},"
            f" {ENTITY_KEY}, {EVENT_TIME}; found an input no version of the model reads"
        )
    return named


def _check_size(tensors: list[Tensor], rows: int) -> None:
    content = sum(len(memoryview(tensor.data)) + len(tensor.name) + 8 for tensor in tensors)
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
