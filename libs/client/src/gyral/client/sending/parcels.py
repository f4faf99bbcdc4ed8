"""What one request carries: rows, where they stood, and a key that makes it one effect."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from gyral.client.errors import ClientError
from gyral.client.rows.bodies import NDJSON, Form
from gyral.client.rows.columns import MisfitError, typed
from gyral.contracts.specs.stream import FieldType

MAX_BODY_BYTES = 4 << 20
"""Half of what ingestion takes by default; a larger body is sent with fewer rows."""
_KEY_CHARS = 40


@dataclass(frozen=True, slots=True)
class Parcel:
    """Consecutive rows of one source, ready to be sent."""

    first: int
    """Number of its first row, from 0."""
    rows: int
    content_type: str
    body: bytes
    place: Callable[[int], str]
    """Where a row stands in its source, by its number within the parcel, from 0."""

    def key(self, *origin: str) -> str:
        """Return the idempotency key: made of where the rows come from, not of when."""
        parts = (*origin, self.content_type, str(self.first), str(self.rows))
        return _digest("\n".join(parts).encode())

    def key_of_content(self, *origin: str) -> str:
        """Return an idempotency key for rows of a source that cannot be read twice."""
        parts = "\n".join((*origin, self.content_type)).encode()
        return _digest(parts + b"\n" + self.body)


def of_tables(
    tables: Iterable[pa.Table],
    form: Form,
    *,
    rows: int,
    first: int,
    place: Callable[[int], str],
) -> Iterator[Parcel]:
    """Yield typed tables in parcels of `rows`, or of as many as fit.

    Where a parcel ends depends on its first row alone, so a run that goes on after an
    interruption makes the same parcels as one that was not interrupted.
    """
    rest: pa.Table | None = None
    for table in tables:
        rest = table if rest is None else pa.concat_tables([rest, table])
        while rest.num_rows >= rows:
            made = _fitting(rest.slice(0, rows), form, first, place)
            yield made
            first, rest = first + made.rows, rest.slice(made.rows)
    while rest is not None and rest.num_rows:
        made = _fitting(rest.slice(0, rows), form, first, place)
        yield made
        first, rest = first + made.rows, rest.slice(made.rows)


def of_lines(
    lines: Iterable[tuple[int, bytes]], *, rows: int, skip: int = 0
) -> Iterator[Parcel]:
    """Yield lines of NDJSON in parcels of `rows`, or of as many as fit."""
    first = seen = size = 0
    numbers: list[int] = []
    texts: list[bytes] = []
    for number, text in lines:
        seen += 1
        if seen <= skip:
            first = seen
            continue
        if texts and (len(texts) >= rows or size + len(text) > MAX_BODY_BYTES):
            yield _of_lines(first, numbers, texts)
            first, numbers, texts, size = first + len(texts), [], [], 0
        numbers.append(number)
        texts.append(text)
        size += len(text) + 1
    if texts:
        yield _of_lines(first, numbers, texts)


def fitted(
    table: pa.Table, fields: Mapping[str, FieldType], where: Callable[[int], str]
) -> pa.Table:
    """Return a table's columns in the types of their fields.

    Raises:
        ClientError: a cell does not fit; names row, field, expected and found.
    """
    columns = {}
    for name, kind in fields.items():
        try:
            columns[name] = typed(table.column(name), kind)
        except MisfitError as error:
            raise ClientError(f"{where(error.at)}: {name}: {error}: {MEND}") from error
    return pa.table(columns)


MEND = (
    "mend it, then send again with --restart: rows that were taken before are dropped as "
    "duplicates"
)
"""What to do about a row that cannot be sent."""


def _fitting(table: pa.Table, form: Form, first: int, place: Callable[[int], str]) -> Parcel:
    body = form.encode(table)
    while len(body) > MAX_BODY_BYTES and table.num_rows > 1:
        table = table.slice(0, (table.num_rows + 1) // 2)
        body = form.encode(table)
    return Parcel(first, table.num_rows, form.content_type, body, lambda at: place(first + at))


def _of_lines(first: int, numbers: list[int], texts: list[bytes]) -> Parcel:
    def place(at: int) -> str:
        return f"line {numbers[at]}"

    return Parcel(first, len(texts), NDJSON, b"\n".join(texts), place)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_KEY_CHARS]
