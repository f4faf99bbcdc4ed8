"""Files as streams of rows: tables of CSV and Parquet, lines of NDJSON, in flat memory."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from gyral.client.errors import ClientError

BLOCK_BYTES = 1 << 22
MAX_LINE_BYTES = 8 << 20
_PARQUET_ROWS = 8192


class Format(StrEnum):
    """Forms of files, by the ends of their names."""

    CSV = "CSV"
    NDJSON = "NDJSON"
    PARQUET = "Parquet"


_FORMATS = {
    ".csv": Format.CSV,
    ".ndjson": Format.NDJSON,
    ".jsonl": Format.NDJSON,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
}
_PACKED = {".gz": "gzip", ".zst": "zstd"}


@dataclass(slots=True)
class File:
    """One file, read from its beginning as often as needed."""

    path: Path
    _raw: BinaryIO | None = None

    @property
    def format(self) -> Format:
        """What its name says it is.

        Raises:
            ClientError: none that can be read.
        """
        suffixes = [each.lower() for each in self.path.suffixes]
        packed = bool(suffixes) and suffixes[-1] in _PACKED
        found = _FORMATS.get(suffixes[-2 if packed else -1]) if len(suffixes) > packed else None
        if found is None or (packed and found is Format.PARQUET):
            raise ClientError(
                f"{self.path}: expected a name that ends in .csv, .ndjson or .jsonl (and then "
                f"perhaps .gz or .zst), .parquet or .pq; found {self.path.name!r}: convert it"
            )
        return found

    @property
    def position(self) -> int:
        """How many of its bytes were read."""
        return self._raw.tell() if self._raw is not None and not self._raw.closed else 0

    def columns(self) -> tuple[str, ...]:
        """Return the names of a table's columns."""
        with self._told():
            if self.format is Format.PARQUET:
                with self._parquet() as parquet:
                    names = parquet.schema_arrow.names
            else:
                with self._text() as text, pyarrow.csv.open_csv(text) as reader:
                    names = reader.schema.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ClientError(
                f"{self.path}: expected columns with names of their own; found {twice[0]!r} "
                "twice: rename one"
            )
        return tuple(names)

    def tables(self, columns: Sequence[str], *, skip: int = 0) -> Iterator[pa.Table]:
        """Yield these columns, block by block, from row number `skip` on; CSV stays text."""
        with self._told():
            source = self._parquet_tables if self.format is Format.PARQUET else self._csv_tables
            yield from source(columns, skip)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the lines that are not blank, with their numbers from 1."""
        with self._told(), self._text() as text:
            yield from lines_of(text, str(self.path))

    def place(self, row: int) -> str:
        """Return where a row of a table stands, by its number from 0."""
        if self.format is Format.PARQUET:
            return f"row {row + 1}"
        with (
            self._text() as text,
            io.TextIOWrapper(io.BufferedReader(text), encoding="utf-8-sig", newline="") as file,
        ):
            reader = csv.reader(file)
            left = row + 1
            for cells in reader:
                left -= bool(cells)
                if left < 0:
                    break
            return f"line {reader.line_num}"

    def _csv_tables(self, columns: Sequence[str], skip: int) -> Iterator[pa.Table]:
        # An empty cell is no value; "" is a text of no characters, and NA may be Namibia.
        convert = pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()),
            include_columns=list(columns),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        with (
            self._text() as text,
            pyarrow.csv.open_csv(
                text,
                pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES),
                pyarrow.csv.ParseOptions(newlines_in_values=True),
                convert,
            ) as reader,
        ):
            for block in reader:
                if skip < block.num_rows:
                    yield pa.Table.from_batches([block.slice(skip)])
                skip = max(0, skip - block.num_rows)

    def _parquet_tables(self, columns: Sequence[str], skip: int) -> Iterator[pa.Table]:
        with self._parquet() as parquet:
            first = 0
            while first < parquet.num_row_groups:
                rows = parquet.metadata.row_group(first).num_rows
                if skip < rows:
                    break
                skip, first = skip - rows, first + 1
            groups = list(range(first, parquet.num_row_groups))
            blocks = parquet.iter_batches(_PARQUET_ROWS, groups, columns=list(columns))
            for block in blocks if groups else ():
                if skip < block.num_rows:
                    yield pa.Table.from_batches([block.slice(skip)])
                skip = max(0, skip - block.num_rows)

    @contextmanager
    def _parquet(self) -> Iterator[pyarrow.parquet.ParquetFile]:
        with (
            self._opened() as raw,
            pyarrow.parquet.ParquetFile(
                pa.PythonFile(raw, mode="r"), buffer_size=BLOCK_BYTES, pre_buffer=False
            ) as file,
        ):
            yield file

    @contextmanager
    def _text(self) -> Iterator[pa.NativeFile]:
        kind = _PACKED.get(self.path.suffix.lower())
        with self._opened() as raw:
            plain = pa.PythonFile(raw, mode="r")
            yield pa.CompressedInputStream(plain, kind) if kind else plain

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        with self.path.open("rb") as raw:
            self._raw = raw
            yield raw

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Make what a reader says one line with the file's name."""
        try:
            yield
        except FileNotFoundError as error:
            raise ClientError(f"{self.path}: expected a file; found nothing") from error
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ClientError(
                f"{self.path}: expected a {self.format} file; found {reason}"
            ) from error


def lines_of(stream: "BinaryIO | pa.NativeFile", name: str) -> Iterator[tuple[int, bytes]]:
    """Yield a stream's lines that are not blank, with their numbers from 1.

    Raises:
        ClientError: a line is longer than any service takes.
    """
    number, rest = 0, b""
    while block := stream.read(BLOCK_BYTES):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            number += 1
            if text := line.strip():
                yield number, text
        if len(rest) > MAX_LINE_BYTES:
            raise ClientError(
                f"{name}: line {number + 1}: expected at most {MAX_LINE_BYTES} bytes; "
                "found more"
            )
    if text := rest.strip():
        yield number + 1, text
