"""Datasets as notebooks read them: a stream's table at a version that stays as it is."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from gyral.client import addresses
from gyral.client.errors import ClientError
from gyral.client.lake import lake_of

_READ_ROWS = 16_384


def open(stream: str, version: int | None = None) -> DeltaTable:  # noqa: A001 - as datasets.open
    """Return a stream's table at a version, or as it is now.

    `to_pandas` and `to_pyarrow_dataset` read it, and so do Polars and DuckDB; nobody writes it.

    Raises:
        ClientError: there is no instance, no such table, or no such version.
    """
    settings = addresses.variables(addresses.home())
    if "S3_BUCKET" not in settings:
        raise ClientError(
            "GYRAL_HOME: expected the folder of an instance, whose lake is read; found none"
        )
    lake = lake_of(settings)
    try:
        return DeltaTable(
            f"{lake.root}/{stream}", version=version, storage_options=dict(lake.options)
        )
    except TableNotFoundError as error:
        raise ClientError(
            f"stream {stream!r}: expected a table in the lake; found none: see `dataset ls`"
        ) from error
    except (DeltaError, OSError) as error:
        raise ClientError(f"stream {stream!r}, version {version}: {error}") from error


def schema(table: DeltaTable, fields: Sequence[str] | None = None) -> pa.Schema:
    """Return the columns of a table, all or these.

    Raises:
        ClientError: a field is none of the table's.
    """
    whole: pa.Schema = table.to_pyarrow_dataset().schema
    for name in fields or ():
        if name not in whole.names:
            known = ", ".join(whole.names)
            raise ClientError(f"fields: expected some of {known}; found {name!r}")
    return whole if fields is None else pa.schema([whole.field(name) for name in fields])


def batches(table: DeltaTable, fields: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield these columns, some thousand rows at a time, so that memory stays flat."""
    yield from table.to_pyarrow_dataset().to_batches(
        columns=list(fields), batch_size=_READ_ROWS, batch_readahead=2, fragment_readahead=1
    )
