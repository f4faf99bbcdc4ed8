"""Refused rows in a file: NDJSON as it comes, or Parquet with the bytes as bytes."""

import base64
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from typing import Protocol

import orjson
import pyarrow as pa
from pyarrow import parquet

from gyral.client.errors import ClientError

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("row", pa.int32()),
        ("stream", pa.string()),
        ("record_key", pa.string()),
        ("schema_version", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("quarantined_at", pa.string()),
        ("replayed_at", pa.string()),
        ("replay_id", pa.string()),
        ("origin", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
    ]
)


class _Sheet(Protocol):
    """Where pages of NDJSON go."""

    def add(self, page: bytes) -> None:
        """Write a page."""

    def close(self) -> None:
        """Write what is left."""


async def write(path: Path, pages: AsyncIterator[bytes]) -> int:
    """Write every page and return the number of rows; the file is there whole, or not at all.

    Raises:
        ClientError: the name says no format, or the file cannot be written.
    """
    made = _FORMATS.get(path.suffix)
    if made is None:
        known = ", ".join(sorted(_FORMATS))
        raise ClientError(f"{path}: expected a name that ends in {known}; found another")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    rows = 0
    try:
        with _closed(made(part)) as sheet:
            async for page in pages:
                sheet.add(page)
                rows += page.count(b"\n")
        part.replace(path)
    except OSError as error:
        raise ClientError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    return rows


def _closed(sheet: _Sheet) -> AbstractContextManager[_Sheet]:
    return closing(sheet)


class _Lines:
    """NDJSON, as it came."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def add(self, page: bytes) -> None:
        """Write a page."""
        self._file.write(page)

    def close(self) -> None:
        """Have the disk hold it."""
        with self._file as file:
            file.flush()
            os.fsync(file.fileno())


class _Columns:
    """Parquet, a row group a page."""

    def __init__(self, path: Path) -> None:
        self._writer = parquet.ParquetWriter(path, SCHEMA, compression="zstd")

    def add(self, page: bytes) -> None:
        """Write a page."""
        rows = [orjson.loads(line) for line in page.splitlines()]
        for row in rows:
            key = row.get("key_base64")
            row["key"] = None if key is None else base64.b64decode(key)
            row["value"] = base64.b64decode(row["value_base64"])
        self._writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


_FORMATS: dict[str, Callable[[Path], _Sheet]] = {
    ".ndjson": _Lines,
    ".jsonl": _Lines,
    ".parquet": _Columns,
}
