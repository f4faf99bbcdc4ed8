"""Request bodies as rows: NDJSON, CloudEvents or one JSON record, kept as they came."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import orjson

from gyral.ingestion.domain import Door, RefusedRowError, shown
from gyral.kit.refusals import Refusal


class MediaType(StrEnum):
    """The forms in which rows may come."""

    NDJSON = "application/x-ndjson"
    JSON = "application/json"
    CLOUDEVENT = "application/cloudevents+json"
    CLOUDEVENTS = "application/cloudevents-batch+json"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its key, and its fields as JSON."""

    key: str
    values: bytes


def media_type(content_type: str | None) -> MediaType:
    """Return the form a Content-Type names.

    Raises:
        Refusal: 415, it is none of ours.
    """
    name = (content_type or "").partition(";")[0].strip().lower()
    try:
        return MediaType(name)
    except ValueError as error:
        known = ", ".join(MediaType)
        raise Refusal(
            415,
            "unsupported_media_type",
            f"Content-Type: expected one of {known}; found {shown(name)}",
        ) from error


def read_rows(body: bytes, form: MediaType, door: Door, *, max_rows: int) -> list[Row]:
    """Return all rows of a body, or refuse it whole.

    Raises:
        Refusal: 400 for no JSON, 413 for too many rows, 422 naming line and field at fault.
    """
    rows = []
    for line, (raw, value) in _numbered(body, form, max_rows):
        try:
            rows.append(Row(door.key_of(value), raw))
        except RefusedRowError as refused:
            raise _at(line, 422, "invalid", str(refused), refused.field) from refused
    if not rows:
        raise Refusal(422, "empty", "body: expected at least one row; found none")
    return rows


def _numbered(
    body: bytes, form: MediaType, max_rows: int
) -> Iterator[tuple[int, tuple[bytes, object]]]:
    source = _lines(body) if form is MediaType.NDJSON else _documents(body, form)
    for count, numbered in enumerate(source):
        if count >= max_rows:
            raise Refusal(
                413,
                "too_many_rows",
                f"expected at most {max_rows} rows; found more: send them in parts",
            )
        yield numbered


def _lines(body: bytes) -> Iterator[tuple[int, tuple[bytes, object]]]:
    for line, raw in enumerate(body.split(b"\n"), start=1):
        if text := raw.strip():
            yield line, (text, _parse(text, line))


def _documents(body: bytes, form: MediaType) -> Iterator[tuple[int, tuple[bytes, object]]]:
    document = _parse(body, 1)
    if form is MediaType.JSON:
        yield 1, (body, document)
        return
    events = document if form is MediaType.CLOUDEVENTS else [document]
    if not isinstance(events, list):
        raise _at(
            1,
            422,
            "invalid",
            f"body: expected an array of CloudEvents; found {shown(document)}",
            "body",
        )
    for line, event in enumerate(events, start=1):
        data = _data(event, line)
        yield line, (orjson.dumps(data), data)


def _data(event: object, line: int) -> object:
    if not isinstance(event, dict):
        raise _at(
            line, 422, "invalid", f"event: expected a CloudEvent; found {shown(event)}", "event"
        )
    for name in ("id", "source", "type"):
        if not isinstance(event.get(name), str) or not event[name]:
            raise _at(
                line,
                422,
                "invalid",
                f"{name}: expected text; found {shown(event.get(name))}",
                name,
            )
    if event.get("specversion") != "1.0":
        found = shown(event.get("specversion"))
        raise _at(
            line, 422, "invalid", f"specversion: expected '1.0'; found {found}", "specversion"
        )
    return event.get("data")


def _parse(text: bytes, line: int) -> object:
    try:
        value: object = orjson.loads(text)
    except ValueError as error:
        reason = str(error).encode("ascii", "backslashreplace").decode()[:160]
        raise _at(line, 400, "bad_json", f"expected JSON; found {reason}", None) from error
    return value


def _at(line: int, status: int, code: str, message: str, field: str | None) -> Refusal:
    place = f"line {line}" if field is None else f"line {line}: {field}"
    return Refusal(status, code, f"line {line}: {message}", field=place)
