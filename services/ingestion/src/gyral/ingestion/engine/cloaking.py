"""Personal fields at the door: text becomes its pseudonym before a row goes anywhere."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from gyral.contracts.batches import MAX_BATCH_BYTES, BatchSubmitted
from gyral.contracts.data import StreamDeclared
from gyral.contracts.specs.stream import StreamField
from gyral.ingestion.engine.columns import Columns, checked_keys
from gyral.ingestion.engine.forms import Rows, Value, too_long_a_row
from gyral.ingestion.engine.lines import Lines
from gyral.kit.personal import PersonalKeys
from gyral.kit.refusals import Refusal

T = TypeVar("T")
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text_or_null = msgspec.json.Decoder(str | None).decode
_encode = msgspec.json.Encoder().encode
_BAD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_PLACE = re.compile(r"(line|row) \d+")
_OURS = frozenset({"row", "body", "event", "columns", "id", "source", "type", "specversion"})
"""Places that an answer names and no sender chose."""


@dataclass(frozen=True, slots=True)
class Cloak:
    """What of a stream's rows is personal, and what it becomes."""

    stream: str
    generation: int
    key: str
    fields: Mapping[str, StreamField]
    personal: frozenset[str]
    keys: PersonalKeys
    _known: dict[str, str] = field(default_factory=dict)
    """What was pseudonymised for this request: senders repeat themselves."""

    @classmethod
    def of(cls, declared: StreamDeclared, keys: PersonalKeys) -> "Cloak | None":
        """Return a stream's cloak for one request; None where nothing of it is personal."""
        body = declared.spec.spec
        if body.subject is None:
            return None
        personal = frozenset(body.personal)
        return cls(declared.name, declared.generation, body.key, body.fields, personal, keys)

    def values(self, read: Callable[[], Rows], partitions: int) -> Iterator[Value]:
        """Yield the rows that `read` returns, pseudonymised and sealed.

        Raises:
            Refusal: as `read` does, and 422 for what is no text or not declared; none of them
                repeats what was sent.
        """
        rows = self._discreetly(lambda: self._covered(read()))
        for value in rows.values(partitions):
            yield replace(value, seal=self._sealed(value))

    def _discreetly(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except Refusal as refused:
            hidden = self._hidden(refused)
        # Outside of the handler: the first refusal is not even this one's context.
        raise hidden

    def _hidden(self, refused: Refusal) -> Refusal:
        """Return a refusal without what was found."""
        message, place = refused.message.partition("; found")[0], refused.field
        before, _, name = (place or "").rpartition(": ")
        if place and not _PLACE.fullmatch(name) and name not in self.fields.keys() | _OURS:
            message, place = "expected declared fields, each once", before or None
            message = f"{before}: {message}" if before else message
        message = f"{message}. What was found is not shown: it may be personal"
        return Refusal(refused.status, refused.code, message, field=place)

    def _covered(self, rows: Rows) -> Rows:
        match rows:
            case Lines():
                return self._lines(rows)
            case Columns():
                return self._columns(rows)
            case _:
                raise TypeError(f"rows: expected lines or columns; found {type(rows).__name__}")

    def _lines(self, rows: Lines) -> Lines:
        lines = [self._line(number, line) for number, line in enumerate(rows.lines, start=1)]
        if self.key not in self.personal:
            return Lines(rows.keys, lines)
        return Lines([self._pseudonym(key) for key in rows.keys], lines)

    def _line(self, number: int, line: bytes) -> bytes:
        try:
            row = _decode(line)
        except _BAD as error:
            raise _at(number, "row", "an object of plain values") from error
        for name, raw in row.items():
            if name not in self.fields:
                raise _at(number, "row", "declared fields only")
            if name in self.personal:
                row[name] = self._cell(number, name, raw)
        made = _encode(row)
        if len(made) > MAX_BATCH_BYTES:
            raise too_long_a_row(f"row {number}", MAX_BATCH_BYTES)
        return made

    def _cell(self, number: int, name: str, raw: msgspec.Raw) -> msgspec.Raw:
        try:
            text = _text_or_null(raw)
        except _BAD as error:
            raise _at(number, name, "text") from error
        if text is None:
            return raw
        longest = self.fields[name].max_length
        if len(text) > longest or "\0" in text:
            raise _at(number, name, _expected(longest))
        return msgspec.Raw(b'"%b"' % self._pseudonym(text).encode())

    def _pseudonym(self, text: str) -> str:
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self.keys.pseudonym(text)
        return known

    def _columns(self, rows: Columns) -> Columns:
        names = rows.batch.schema.names
        columns = [
            self._column(name, column) if name in self.personal else column
            for name, column in zip(names, rows.batch.columns, strict=True)
        ]
        # By names alone: what a schema says of itself was chosen by its sender.
        batch = pa.RecordBatch.from_arrays(columns, names)
        if self.key not in self.personal:
            return Columns(batch, rows.keys)
        return Columns(batch, checked_keys(batch.column(self.key), self.key))

    def _column(self, name: str, column: pa.Array) -> pa.Array:
        encoded = column.dictionary_encode()
        texts: Sequence[str] = encoded.dictionary.to_pylist()
        longest = self.fields[name].max_length
        for at, text in enumerate(texts):
            if len(text) > longest or "\0" in text:
                first = pc.index(encoded.indices, pa.scalar(at, encoded.indices.type)).as_py()
                raise _at(first + 1, name, _expected(longest))
        made = pa.array([self.keys.pseudonym(text) for text in texts], pa.string())
        return pa.DictionaryArray.from_arrays(encoded.indices, made).dictionary_decode()

    def _sealed(self, value: Value) -> bytes:
        batch = BatchSubmitted.model_construct(
            stream=self.stream,
            schemaversion=self.generation,
            rows=value.rows,
            form=value.form,
        )
        told = {"ce_type": BatchSubmitted.type, **batch.attributes}
        headers = [(name, text.encode()) for name, text in told.items()]
        return self.keys.seal(headers, value.content)


def _expected(longest: int) -> str:
    return f"text of at most {longest} characters without NUL"


def _at(row: int, name: str, expected: str) -> Refusal:
    place = f"row {row}"
    return Refusal(
        422, "invalid", f"{place}: {name}: expected {expected}", field=f"{place}: {name}"
    )
