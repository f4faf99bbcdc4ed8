"""Logged predictions, decoded and laid out as rows of the lake."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import pyarrow as pa
from msgspec import Meta

from gyral.contracts.specs.stream import FieldType, StreamField
from gyral.kit.cloudevents import Record
from gyral.validation.domain.refusals import Reason, Violation, printable, shown
from gyral.validation.engine.refusing import payload

Cell = float | int | bool | str | None
_BAD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)
_Uuid = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
_Micros = Annotated[int, Meta(ge=0, lt=2**62)]


class Answer(msgspec.Struct, gc=False):
    """One answered request, columns with one entry a row."""

    request_id: _Uuid
    model: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    version: Annotated[int, Meta(ge=1, lt=2**31)]
    role: Literal["live", "shadow"]
    epoch: Annotated[int, Meta(ge=1, lt=2**62)]
    answered_at: _Micros
    latency_us: _Micros
    entity_keys: list[str | None]
    event_times: list[_Micros | None]
    features: dict[str, list[Cell]]
    probabilities: list[float | None]
    error: str | None = None

    @property
    def identity(self) -> tuple[str, str]:
        """What tells an answer from another."""
        return self.request_id, self.role


@dataclass(frozen=True, slots=True)
class Placed:
    """An answer and the record it came in."""

    record: Record
    answer: Answer


_decode = msgspec.json.Decoder(Answer).decode


def read_answer(record: Record) -> Placed | Violation:
    """Return the answer a record holds, or why it holds none."""
    try:
        answer = _decode(payload(record))
    except _BAD as error:
        return Violation(Reason.MALFORMED, printable(str(error)))
    rows = len(answer.probabilities)
    columns: dict[str, Sequence[object]] = {
        "entity_keys": answer.entity_keys,
        "event_times": answer.event_times,
        **answer.features,
    }
    for name, column in columns.items():
        if len(column) != rows:
            detail = printable(f"{name}: expected {rows} entries; found {len(column)}")
            return Violation(Reason.MALFORMED, detail)
    return Placed(record, answer)


def misfit(answer: Answer, declared: Mapping[str, StreamField]) -> Violation | None:
    """Return the first feature that is not declared or holds another type than declared."""
    for name, column in answer.features.items():
        known = declared.get(name)
        if known is None:
            detail = printable(
                f"features: expected fields of the model's stream; found {name!r}"
            )
            return Violation(Reason.UNKNOWN_FIELD, detail)
        textual = _is_text(known)
        for cell in column:
            if cell is not None and isinstance(cell, str) is not textual:
                wanted = "text" if textual else "a number"
                return Violation(
                    Reason.TYPE, printable(f"{name}: expected {wanted}; found {shown(cell)}")
                )
    return None


def table(
    placed: Sequence[Placed], declared: Mapping[str, StreamField], features: Sequence[str]
) -> pa.Table:
    """Return answers as rows, one a prediction; numbers of any kind become floats."""
    answers = [one.answer for one in placed]
    counts = [len(answer.probabilities) for answer in answers]

    def each(values: Sequence[object], kind: pa.DataType) -> pa.Array:
        return pa.array(
            [value for value, count in zip(values, counts, strict=True) for _ in range(count)],
            kind,
        )

    def flat(columns: Sequence[Sequence[object]], kind: pa.DataType) -> pa.Array:
        return pa.array([cell for column in columns for cell in column], kind)

    time = pa.timestamp("us", "UTC")
    columns = {
        "request_id": each([answer.request_id for answer in answers], pa.string()),
        "row": flat([range(count) for count in counts], pa.int32()),
        "version": each([answer.version for answer in answers], pa.int32()),
        "role": each([answer.role for answer in answers], pa.string()),
        "epoch": each([answer.epoch for answer in answers], pa.int64()),
        "entity_key": flat([answer.entity_keys for answer in answers], pa.string()),
        "event_time": flat([answer.event_times for answer in answers], pa.int64()).cast(time),
        "answered_at": each([answer.answered_at for answer in answers], pa.int64()).cast(time),
        "latency_us": each([answer.latency_us for answer in answers], pa.int64()),
        "probability": flat([answer.probabilities for answer in answers], pa.float64()),
        "error": each([answer.error for answer in answers], pa.string()),
    }
    for name in features:
        text = _is_text(declared[name])
        cells = [
            _cells(answer, name, count, text=text)
            for answer, count in zip(answers, counts, strict=True)
        ]
        columns[f"feature_{name}"] = flat(cells, pa.string() if text else pa.float64())
    columns["_topic"] = each([one.record.topic for one in placed], pa.string())
    columns["_partition"] = each([one.record.partition for one in placed], pa.int32())
    columns["_offset"] = each([one.record.offset for one in placed], pa.int64())
    return pa.table(columns)


def _cells(answer: Answer, name: str, count: int, *, text: bool) -> list[Cell]:
    column = answer.features.get(name, [None] * count)
    if text:
        return column
    return [None if cell is None else float(cell) for cell in column]


def _is_text(declared: StreamField) -> bool:
    return declared.type is FieldType.STRING
