"""A request understood: rows, keys and times, and its features as one version reads them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from gyral.contracts.deployment import Share
from gyral.gateway.api.asked import ENTITY_KEY, EVENT_TIME, OWN, Asked, Expected, Wanted
from gyral.gateway.api.binary import Sent, as_json
from gyral.gateway.api.packed import PACKED, Block, unpacked
from gyral.gateway.api.tensors import (
    BadRequestError,
    Features,
    Json,
    expect_rows,
    missing_input,
    read_entity_keys,
    read_event_times,
    rows_of,
)
from gyral.gateway.domain.rows import MAX_ROWS, Column

MAX_ENTRY_BYTES = 1_000_000
"""Largest entry of the prediction log: below what a Kafka broker accepts by default (1 MiB)."""
_ENTRY_OVERHEAD_BYTES = 4096
_SURELY_SMALL_BYTES = 20_000
"""Up to here no request can be too large: one byte adds at most 25 to the log."""
_ROW_BYTES = 64
"""A row's probability, key and time where none was given, generously."""


class TooLargeError(ValueError):
    """The request is well-formed and more than the gateway takes."""


class Question(msgspec.Struct, frozen=True, gc=False):
    """A request before a version is chosen: what does not depend on the version is checked."""

    client_id: str | None
    rows: int
    tensors: Mapping[str, Sent]
    """As they came, until a version says how to read them."""
    block: Block | None
    """All features at once, when they came so."""
    first_entity_key: str | None
    entity_keys: msgspec.Raw
    event_times: msgspec.Raw
    outputs: tuple[Wanted, ...]


def understand(asked: Asked, expected: Expected) -> Question:
    """Return what is asked of a model.

    Raises:
        BadRequestError: it is nothing that this model can be asked.
        TooLargeError: its log entry would be larger than MAX_ENTRY_BYTES.
    """
    if len(asked.inputs) == 1 and not expected.event_clock:
        [only] = asked.inputs
        if only.name == PACKED and PACKED not in expected.inputs:
            return _packed_alone(asked, only, expected.order)
    tensors = _by_name(asked.inputs, expected.inputs)
    sent = tensors.get(PACKED) if PACKED not in expected.inputs else None
    block = None if sent is None else _unpacked(sent, tensors, expected.order)
    rows = rows_of(asked.inputs) if sent is None else sent.shape[0]
    keys = tensors.get(ENTITY_KEY) if ENTITY_KEY not in expected.inputs else None
    times = tensors.get(EVENT_TIME) if EVENT_TIME not in expected.inputs else None
    if asked.size_bytes > _SURELY_SMALL_BYTES:
        _check_size(tensors, block, rows)
    entity_keys, keys_json = (
        ([None], _nulls(rows)) if keys is None else read_entity_keys(as_json(keys), rows)
    )
    return Question(
        client_id=asked.client_id,
        rows=rows,
        tensors=tensors,
        block=block,
        first_entity_key=entity_keys[0],
        entity_keys=keys_json,
        event_times=_event_times(times, rows, expected),
        outputs=asked.outputs,
    )


def _packed_alone(asked: Asked, packed: Sent, order: tuple[str, ...] | None) -> Question:
    """Return what is asked with nothing but packed features: most of what comes."""
    block = unpacked(packed, order) if order else _unpacked(packed, {}, order)
    rows = packed.shape[0]
    if asked.size_bytes > _SURELY_SMALL_BYTES:
        _check_size({}, block, rows)
    nulls = _nulls(rows)
    return Question(asked.client_id, rows, {}, block, None, nulls, nulls, asked.outputs)


def features_for(question: Question, share: Share) -> Features:
    """Return the features as this version reads them.

    Raises:
        BadRequestError: one is missing, or is not what the version declares.
    """
    if question.block is not None:
        return question.block.read(share)
    columns: list[Column] = []
    json: dict[str, Json] = {}
    for declared in share.inputs:
        given = question.tensors.get(declared.name)
        if given is None:
            raise missing_input(declared, share.version)
        reading = given.read(declared, question.rows)
        columns.append(reading.column)
        json[declared.name] = reading.json
    return Features(columns, json)


def _by_name(tensors: Sequence[Sent], known_inputs: frozenset[str]) -> dict[str, Sent]:
    named = {tensor.name: tensor for tensor in tensors}
    if len(named) != len(tensors):
        twice, times = Counter(tensor.name for tensor in tensors).most_common(1)[0]
        raise BadRequestError(f"{twice[:80]}: expected an input once; found it {times} times")
    unknown = named.keys() - known_inputs
    if unknown and (unknown := unknown - OWN):
        raise BadRequestError(
            f"{min(unknown)[:80]}: expected one of {', '.join(sorted(known_inputs))},"
            f" {ENTITY_KEY}, {EVENT_TIME}; found an input no version of the model reads"
        )
    return named


def _event_times(times: Sent | None, rows: int, expected: Expected) -> msgspec.Raw:
    required = expected.event_clock
    if times is not None:
        latest_us = expected.latest_us
        return read_event_times(as_json(times), rows, required=required, latest_us=latest_us)
    if required:
        raise BadRequestError(
            f"{EVENT_TIME}: expected one a row, as the model is on an event clock; found none."
            " Send µs since 1970 UTC as INT64, or RFC 3339 among named fields"
        )
    return _nulls(rows)


def _unpacked(
    packed: Sent, tensors: Mapping[str, Sent], order: tuple[str, ...] | None
) -> Block:
    """Return the packed features; what came beside them may be no feature."""
    beside = {name: tensor for name, tensor in tensors.items() if tensor is not packed}
    single = beside.keys() - OWN
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
    block = unpacked(packed, order)
    for tensor in beside.values():
        expect_rows(tensor, packed.shape[0])
    return block


def _check_size(tensors: Mapping[str, Sent], block: Block | None, rows: int) -> None:
    content = sum(each.size_bytes + len(name) + 8 for name, each in tensors.items())
    size = content + rows * _ROW_BYTES + _ENTRY_OVERHEAD_BYTES
    if block is not None:
        size += block.size_bytes
    if size > MAX_ENTRY_BYTES:
        raise TooLargeError(
            f"inputs: expected at most {MAX_ENTRY_BYTES} bytes to log; found about {size}: send"
            " fewer rows a request"
        )


@lru_cache(maxsize=MAX_ROWS)
def _nulls(rows: int) -> msgspec.Raw:
    return msgspec.Raw(b"[" + b",".join([b"null"] * rows) + b"]")
