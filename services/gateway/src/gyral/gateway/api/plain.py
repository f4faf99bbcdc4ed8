"""Predictions for those without tensors: rows of named fields, or columns of them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from gyral.contracts.deployment import Datatype
from gyral.gateway.api.answers import JSON, Body, prediction_ids
from gyral.gateway.api.asked import BOTH, ENTITY_KEY, EVENT_TIME, Asked, Expected
from gyral.gateway.api.front import Said
from gyral.gateway.api.tensors import BadRequestError, Field, Tensor
from gyral.gateway.domain.rows import MAX_ROWS
from gyral.kit.duplicates import may_repeat_keys, reject_duplicate_keys

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class FieldsRequest(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Either of its fields."""

    instances: list[dict[str, msgspec.Raw]] | None = None
    columns: dict[str, msgspec.Raw] | None = None


class Predictions(msgspec.Struct, gc=False):
    """The body of a 200."""

    predictions: list[float]
    prediction_ids: list[str]
    model_version: str


_decode = msgspec.json.Decoder(FieldsRequest).decode
_cells = msgspec.json.Decoder(list[msgspec.Raw]).decode
_times = msgspec.json.Decoder(list[Annotated[datetime, msgspec.Meta(tz=True)] | None]).decode
_encode = msgspec.json.Encoder().encode


def read_fields(body: bytes, header: bytes | None, expected: Expected) -> Asked:
    """Return the request that a body of named fields holds.

    Raises:
        BadRequestError: it is none, or not for this model.
        Refusal: an object of it has a key twice.
    """
    if header is not None:
        raise BadRequestError(
            "expected a body of JSON alone; found the header inference-header-content-length"
        )
    request = _decoded(body)
    columns, rows = _columns(request)
    for name in columns:
        if name not in expected.inputs and name not in (ENTITY_KEY, EVENT_TIME):
            raise BadRequestError(
                f"{name[:80]}: expected one of {', '.join(sorted(expected.inputs))},"
                f" {ENTITY_KEY}, {EVENT_TIME}; found a field no version of the model reads"
            )
    inputs = [_input(name, rows, cells, expected) for name, cells in columns.items()]
    return Asked(None, inputs, BOTH, len(body))


def answer_body(said: Said) -> Body:
    """Return the answer: a prediction, which is a probability or a number, and its id a row."""
    answer = said.answer
    content = Predictions(
        answer.probabilities,
        prediction_ids(said.asking.request_id, said.question.rows),
        str(answer.share.version),
    )
    return Body(_encode(content), JSON, [])


def _decoded(body: bytes) -> FieldsRequest:
    try:
        request = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(
            f"body: expected JSON with either instances or columns; found this: {error}"
        ) from None
    except RecursionError:
        raise BadRequestError("expected fields; found JSON nested too deeply") from None
    keys = 1 + sum(map(len, request.instances or ())) + len(request.columns or ())
    if may_repeat_keys(body, keys):
        reject_duplicate_keys(body)
    return request


def _columns(request: FieldsRequest) -> tuple[Mapping[str, msgspec.Raw], int]:
    """Return each field's cells as one array, and how many rows there are."""
    instances, columns = request.instances, request.columns
    if (instances is None) == (columns is None):
        found = "neither" if instances is None else "both"
        raise BadRequestError(f"expected either instances or columns; found {found}")
    if columns is not None:
        rows = _count(columns)
        _check_rows("columns", rows)
        return columns, rows
    assert instances is not None  # noqa: S101 - for mypy: one of both is there
    _check_rows("instances", len(instances))
    return _transposed(instances), len(instances)


def _check_rows(where: str, rows: int) -> None:
    if not 0 < rows <= MAX_ROWS:
        raise BadRequestError(f"{where}: expected 1 to {MAX_ROWS} rows; found {rows}")


def _count(columns: Mapping[str, msgspec.Raw]) -> int:
    for name, cells in columns.items():
        try:
            return len(_cells(cells))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequestError(f"{name[:80]}: {error}") from None
    return 0


def _transposed(instances: Sequence[Mapping[str, msgspec.Raw]]) -> Mapping[str, msgspec.Raw]:
    first = instances[0].keys()
    for row, instance in enumerate(instances):
        for name in first ^ instance.keys():
            expected, found = (name, "none") if name in first else ("no field", name)
            raise BadRequestError(
                f"instances.{row}: expected {expected[:80]}, as in the first one; found"
                f" {found[:80]}"
            )
    return {
        name: msgspec.Raw(b"[" + b",".join([each[name] for each in instances]) + b"]")
        for name in first
    }


def _input(name: str, rows: int, cells: msgspec.Raw, expected: Expected) -> Field | Tensor:
    if name in expected.inputs:
        return Field(name, [rows], cells)
    if name == ENTITY_KEY:
        return Tensor(name, [rows], Datatype.BYTES.value, cells)
    return Tensor(name, [rows], Datatype.INT64.value, _micros(cells))


def _micros(cells: msgspec.Raw) -> msgspec.Raw:
    try:
        times = _times(cells)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"{EVENT_TIME}: {error}") from None
    micros = [None if time is None else (time - _EPOCH) // _MICROSECOND for time in times]
    return msgspec.Raw(_encode(micros))
