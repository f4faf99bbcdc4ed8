"""A file to a stream: from where an earlier run of the same content stopped."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import pyarrow as pa

from gyral.client.errors import ClientError
from gyral.client.rows.bodies import TABLES, leaving_room
from gyral.client.rows.files import File, Format, lines_of
from gyral.client.sending.declared import Declared
from gyral.client.sending.delivering import Delivery
from gyral.client.sending.memory import FileSent, Memory
from gyral.client.sending.parcels import Parcel, fitted, of_lines, of_tables
from gyral.client.sending.progress import Show
from gyral.contracts.specs.stream import FieldType


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of one source."""

    source: str
    accepted: int
    """Rows taken now."""
    total: int
    """Rows taken now and before."""
    state: str = "sent"
    ignored: tuple[str, ...] = ()
    """Columns that the stream does not declare."""


@dataclass(frozen=True, slots=True)
class Files:
    """Sends files, and remembers how far each got."""

    delivery: Delivery
    declared: Declared | None
    """What tables are typed by; lines of NDJSON have types of their own."""
    memory: Memory
    show: Show
    batch: int
    restart: bool = False

    async def send(self, path: Path) -> Sent:
        """Send a file's rows that were not sent before.

        Raises:
            ClientError: it cannot be read, does not fit the stream, or has changed.
        """
        file, sealed = File(path), Sealed.of(path)
        rows = _rows_of(file, self.declared)
        self.show(f"{path.name}: checking")
        digest = sealed.digest()
        before = self._before(sealed.place, digest)
        if before is not None and before.complete:
            return Sent(str(path), 0, before.rows, f"already sent {before.at}", rows.ignored)
        first = before.rows if before else 0
        sending = _Sending(self, file, sealed, digest, first)
        await self.delivery.deliver(
            leaving_room(sealed.watched(rows.parcels(self.batch, first))),
            lambda parcel: parcel.key(self.delivery.stream, str(rows.generation), digest),
            sending.taken,
            name=str(path),
        )
        self.memory.sent(sealed.place, digest, sending.total, complete=True)
        return Sent(str(path), sending.total - first, sending.total, ignored=rows.ignored)

    async def send_lines(self, stream: BinaryIO) -> Sent:
        """Send NDJSON that cannot be read twice; the same lines again add nothing."""
        total = 0

        def taken(parcel: Parcel) -> None:
            nonlocal total
            total += parcel.rows
            self.show("stdin", total)

        parcels = of_lines(lines_of(stream, "stdin"), rows=self.batch)
        await self.delivery.deliver(
            leaving_room(parcels),
            lambda parcel: parcel.key_of_content(self.delivery.stream),
            taken,
            name="stdin",
        )
        return Sent("stdin", total, total)

    def _before(self, place: Path, digest: str) -> FileSent | None:
        if self.restart:
            self.memory.forget_file(place, digest)
        rows = self.memory.interrupted(place, digest)
        if rows is not None:
            raise ClientError(
                f"{place}: expected the content whose first {rows} rows were sent; found "
                "another: send it from the beginning with --restart (rows that were taken "
                "before are dropped as duplicates)"
            )
        return self.memory.file(digest)


@dataclass(slots=True)
class _Sending:
    """How far one file has come."""

    files: Files
    file: File
    sealed: "Sealed"
    digest: str
    total: int

    def taken(self, parcel: Parcel) -> None:
        """Note that a parcel's rows were taken."""
        self.total = parcel.first + parcel.rows
        self.files.memory.sent(self.sealed.place, self.digest, self.total, complete=False)
        share = self.file.position / max(1, self.sealed.size)
        self.files.show(self.file.path.name, self.total, share)


@dataclass(frozen=True, slots=True)
class _Rows:
    """A file's rows, as a stream takes them."""

    file: File
    generation: int = 0
    fields: dict[str, FieldType] | None = None
    ignored: tuple[str, ...] = ()

    def parcels(self, batch: int, skip: int) -> Iterator[Parcel]:
        """Return what is to be sent from a row on."""
        if self.fields is None:
            return of_lines(self.file.lines(), rows=batch, skip=skip)
        tables = self._tables(self.fields, skip)
        return of_tables(tables, TABLES, rows=batch, first=skip, place=self.file.place)

    def _tables(self, fields: dict[str, FieldType], skip: int) -> Iterator[pa.Table]:
        row = skip
        for table in self.file.tables(tuple(fields), skip=skip):
            at = row
            yield fitted(table, fields, lambda bad, at=at: self._place(at + bad))  # type: ignore[misc]
            row += table.num_rows

    def _place(self, row: int) -> str:
        return f"{self.file.path}: {self.file.place(row)}"


def _rows_of(file: File, declared: Declared | None) -> _Rows:
    if file.format is Format.NDJSON or declared is None:
        return _Rows(file)
    columns = file.columns()
    fields = declared.fields_of(columns, str(file.path))
    ignored = tuple(name for name in columns if name not in fields)
    return _Rows(file, declared.generation, fields, ignored)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A file that may not change while it is being sent."""

    path: Path
    seen: tuple[int, int, int]

    @classmethod
    def of(cls, path: Path) -> Self:
        """Look at a file for the first time."""
        return cls(path, _look(path))

    @property
    def place(self) -> Path:
        """Its path, whichever way it was named."""
        return self.path.resolve()

    @property
    def size(self) -> int:
        """Bytes it has."""
        return self.seen[0]

    def digest(self) -> str:
        """Return its SHA-256."""
        with self.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        self.check()
        return found

    def check(self) -> None:
        """Raise a ClientError when it is no longer what it was."""
        if _look(self.path) != self.seen:
            raise ClientError(
                f"{self.path}: expected the same file to the end; found that it changes: send "
                "it once nobody writes to it any more"
            )

    def watched(self, parcels: Iterator[Parcel]) -> Iterator[Parcel]:
        """Yield parcels for as long as the file is what it was."""
        for parcel in parcels:
            self.check()
            yield parcel
        self.check()


def _look(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
        if path.is_dir() or not os.access(path, os.R_OK):
            raise ClientError(f"{path}: expected a file that you may read; found none")
    except OSError as error:
        raise ClientError(f"{path}: expected a file; found {error.strerror}") from error
    return found.st_size, found.st_mtime_ns, found.st_ino
