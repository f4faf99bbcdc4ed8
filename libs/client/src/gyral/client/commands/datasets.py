"""`gyral dataset`: which versions a stream's table has, and one of them as a file."""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from os import getpid
from pathlib import Path
from urllib.parse import quote

import msgspec

from gyral.client import addresses
from gyral.client.answers import Dataset
from gyral.client.calls import Platform
from gyral.client.commands import output
from gyral.client.errors import ClientError
from gyral.client.sending.progress import Show, bar

_COLUMNS = (
    "stream",
    "version",
    "watermark",
    "usable_until",
    "rows",
    "schema_version",
    "content",
    "erased_at",
)


async def ls(given: argparse.Namespace) -> int:
    """List announced versions, oldest first."""
    only = {"stream": given.stream} if given.stream else {}
    async with Platform(addresses.find()) as platform:
        found = await platform["validation"].listed("/v1/datasets", "id", given.limit, only)
    output.rows(found, _COLUMNS, given.output)
    return 0


async def show(given: argparse.Namespace) -> int:
    """Show what one version pins."""
    pin = await _pin(given.stream, given.version)
    output.rows([msgspec.to_builtins(pin)], _COLUMNS, given.output)
    return 0


async def export(given: argparse.Namespace) -> int:
    """Write one version into a Parquet file; it is there whole, or not at all."""
    pin = await _pin(given.stream, given.version)
    path = given.to or Path(f"{pin.stream}-{pin.version}.parquet")
    fields = (
        None if given.fields is None else [each for each in given.fields.split(",") if each]
    )
    with bar() as show:
        rows, content = _export(pin, path, fields, show)
    row = {"file": str(path), "version": pin.version, "rows": rows, "content": content}
    output.rows([row], ("file", "version", "rows", "content"), given.output)
    return 0


async def _pin(stream: str, version: int | None) -> Dataset:
    path = f"/v1/datasets/{quote(stream, safe='')}"
    asked = {} if version is None else {"version": version}
    async with Platform(addresses.find()) as platform:
        pin = await platform["validation"].find(path, Dataset, asked)
    if pin is None:
        wanted = "a version" if version is None else f"version {version}"
        raise ClientError(
            f"stream {stream!r}: expected {wanted} that was announced; found none: "
            "see `gyral dataset ls`"
        )
    return pin


def _export(
    pin: Dataset, path: Path, fields: Sequence[str] | None, show: Show
) -> tuple[int, str | None]:
    """Return how many rows were written, and the digest of their content.

    A choice of fields has no digest of its own: there it is the whole version's.
    """
    from pyarrow import parquet  # noqa: PLC0415 - for this alone

    from gyral.client import datasets  # noqa: PLC0415
    from gyral.modelling.contents import EMPTY, Content  # noqa: PLC0415

    table = datasets.open(pin.stream, pin.version)
    part = path.with_name(f".{path.name}.{getpid()}.part")
    rows, found = 0, EMPTY
    try:
        schema = datasets.schema(table, fields)
        with parquet.ParquetWriter(part, schema, compression="zstd") as writer:
            for batch in datasets.batches(table, schema.names):
                writer.write_batch(batch)
                rows += batch.num_rows
                show(path.name, rows, rows / max(1, pin.rows))
                if fields is None:
                    found += Content.of_rows(batch.to_pylist())
        announced = None if pin.erased_at else pin.content
        if fields is None and announced not in (None, found.digest):
            raise ClientError(
                f"{pin.stream} at version {pin.version}: expected content {pin.content} as "
                f"announced; found {found.digest}: run `gyral audit`"
            )
        part.replace(path)
    except OSError as error:
        raise ClientError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    return rows, found.digest if fields is None else pin.content
