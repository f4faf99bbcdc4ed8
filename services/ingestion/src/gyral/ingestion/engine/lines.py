"""JSON bodies as rows: NDJSON, one record or CloudEvents; each row a line, as it came."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from gyral.contracts.batches import MAX_BATCH_BYTES, MAX_BATCH_ROWS, BatchForm
from gyral.ingestion.domain import Door, RefusedRowError, shown
from gyral.ingestion.engine.forms import (
    MAX_DOCUMENT_BYTES,
    MediaType,
    Value,
    no_rows,
    too_long_a_row,
    too_many_rows,
)
from gyral.kit.bodies import parse_json, too_large
from gyral.kit.duplicates import reject_repeats
from gyral.kit.partitioning import partitions_of
from gyral.kit.refusals import Refusal

_BREAKS = bytes.maketrans(b"\r\n", b"  ")
"""JSON has line breaks between its tokens only; a line of a batch has none."""
_BLOCK_BYTES = 1 << 18
_ENDS_A_KEY = np.isin(np.arange(256), tuple(b'" \t\r\n'))
"""What may stand before the colon of a key."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Rows as JSON objects, one a line, beside their keys."""

    keys: Sequence[str]
    lines: Sequence[bytes]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.lines)

    def values(self, partitions: int) -> Iterator[Value]:
        """Yield the rows by partition, in the order they came."""
        found = partitions_of([key.encode() for key in self.keys], partitions).tolist()
        groups: dict[int, list[bytes]] = {}
        for partition, line in zip(found, self.lines, strict=True):
            groups.setdefault(partition, []).append(line)
        for partition, lines in sorted(groups.items()):
            for piece in _pieces(lines):
                yield Value(partition, len(piece), BatchForm.NDJSON, b"\n".join(piece))


def read_lines(body: bytes, door: Door, *, max_rows: int) -> Lines:
    """Return all rows of an NDJSON body, or refuse it whole.

    Raises:
        Refusal: 400 for no JSON, 413 for too many rows, 422 naming line and field at fault.
    """
    # No more is cut than there may be: a body of line breaks alone would fill the memory.
    found = body.split(b"\n", max_rows)
    if len(found) > max_rows and found.pop().strip(b"\r"):
        raise too_many_rows(max_rows)
    keys: list[str] = []
    lines: list[bytes] = []
    fields = 0
    key_of, loads = door.key_of, orjson.loads
    for number, raw in enumerate(found, start=1):
        line = raw.strip()
        if not line:
            continue
        if len(line) > MAX_BATCH_BYTES:
            raise too_long_a_row(f"line {number}", MAX_BATCH_BYTES)
        try:
            row = loads(line)
            keys.append(key_of(row))
        except RefusedRowError as refused:
            raise _at(number, 422, "invalid", str(refused), refused.field) from refused
        except ValueError as error:
            raise _no_json(number, error) from error
        lines.append(line)
        fields += len(row)
    if not lines:
        raise no_rows()
    if _keys_at_most(body) != fields:
        _reject_repeats(lines)
    return Lines(keys, lines)


def read_document(body: bytes, form: MediaType, door: Door, *, max_rows: int) -> Lines:
    """Return the rows of a body that is one JSON document; raises as `read_lines` does."""
    if len(body) > MAX_DOCUMENT_BYTES:
        raise too_large(MAX_DOCUMENT_BYTES)
    keys: list[str] = []
    lines: list[bytes] = []
    for number, (line, row) in enumerate(_documents(body, form), start=1):
        if number > max_rows:
            raise too_many_rows(max_rows)
        if len(line) > MAX_BATCH_BYTES:
            raise too_long_a_row(f"line {number}", MAX_BATCH_BYTES)
        try:
            keys.append(door.key_of(row))
        except RefusedRowError as refused:
            raise _at(number, 422, "invalid", str(refused), refused.field) from refused
        lines.append(line)
    if not lines:
        raise no_rows()
    return Lines(keys, lines)


def _documents(body: bytes, form: MediaType) -> Iterator[tuple[bytes, object]]:
    document = parse_json(body)
    if form is MediaType.JSON:
        yield body.translate(_BREAKS).strip(), document
        return
    events = document if form is MediaType.CLOUDEVENTS else [document]
    if not isinstance(events, list):
        expected = f"body: expected an array of CloudEvents; found {shown(document)}"
        raise _at(1, 422, "invalid", expected, "body")
    for line, event in enumerate(events, start=1):
        data = _data(event, line)
        try:
            written = orjson.dumps(data)
        except TypeError as error:  # it reads four times as deep as it writes
            raise _no_json(line, "it nested too deeply") from error
        yield written, data


def _data(event: object, line: int) -> object:
    if not isinstance(event, dict):
        raise _at(
            line, 422, "invalid", f"event: expected a CloudEvent; found {shown(event)}", "event"
        )
    for name in ("id", "source", "type"):
        if not isinstance(event.get(name), str) or not event[name]:
            found = f"{name}: expected text; found {shown(event.get(name))}"
            raise _at(line, 422, "invalid", found, name)
    if event.get("specversion") != "1.0":
        found = f"specversion: expected '1.0'; found {shown(event.get('specversion'))}"
        raise _at(line, 422, "invalid", found, "specversion")
    return event.get("data")


def _pieces(lines: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield lines in runs that fit one record each."""
    start, held = 0, 0
    for at, line in enumerate(lines):
        held += len(line) + 1
        if held > MAX_BATCH_BYTES or at - start == MAX_BATCH_ROWS:
            yield lines[start:at]
            start, held = at, len(line) + 1
    yield lines[start:]


def _keys_at_most(body: bytes) -> int:
    """Return how many keys there are, or more: a text may look like the end of one.

    When the parser kept as many, no object has a key twice, and none needs to be looked at.
    """
    count = 0
    text = np.frombuffer(body, dtype=np.uint8)
    for start in range(1, len(text), _BLOCK_BYTES):
        colons = np.flatnonzero(text[start : start + _BLOCK_BYTES] == ord(":"))
        count += int(np.count_nonzero(_ENDS_A_KEY[text[colons + (start - 1)]]))
    return count


def _reject_repeats(lines: Sequence[bytes]) -> None:
    for number, line in enumerate(lines, start=1):
        try:
            reject_repeats(line, orjson.loads(line))
        except Refusal as refused:
            raise _at(
                number, refused.status, refused.code, refused.message, refused.field
            ) from refused


def _no_json(line: int, found: object) -> Refusal:
    reason = str(found).encode("ascii", "backslashreplace").decode()[:160]
    return _at(line, 400, "bad_json", f"expected JSON; found {reason}", None)


def _at(line: int, status: int, code: str, message: str, field: str | None) -> Refusal:
    place = f"line {line}" if field is None else f"line {line}: {field}"
    return Refusal(status, code, f"line {line}: {message}", field=place)
