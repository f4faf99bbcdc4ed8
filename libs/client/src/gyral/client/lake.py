"""The lake as it is read from outside: where its tables are, and what they ever held."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError


@dataclass(frozen=True, slots=True)
class Lake:
    """The Delta tables under one address."""

    root: str
    options: Mapping[str, str]
    retired: frozenset[str] = frozenset()
    """Tables that some rows have left; of others no history is read."""

    def read(self, name: str, columns: Sequence[str]) -> pa.Table | None:
        """Return those of these columns that a table has, or None when there is no table.

        Rows that its stream's retention dropped are read where they still were, as long as
        those files are there: a vacuum takes them when Kafka no longer has the rows either.
        """
        table = self.table(name)
        if table is None:
            return None
        parts = [_columns(table, columns)]
        for version, gone in _retired(table) if name in self.retired else ():
            before = self.table(name, version)
            assert before is not None  # noqa: S101 - a later version exists
            with suppress(FileNotFoundError):
                parts.append(_columns(before, columns, gone))
        return pa.concat_tables(parts, promote_options="default")

    def table(self, name: str, version: int | None = None) -> DeltaTable | None:
        """Return a table at a version, or as it is now; None when there is no table."""
        try:
            return DeltaTable(
                f"{self.root}/{name}", version=version, storage_options=dict(self.options)
            )
        except TableNotFoundError:
            return None


def lake_of(settings: Mapping[str, str]) -> Lake:
    """Return the lake of an instance."""
    return Lake(
        f"s3://{settings['S3_BUCKET']}/lake",
        {
            "endpoint_url": settings["S3_ENDPOINT"],
            "access_key_id": settings["S3_ACCESS_KEY"],
            "secret_access_key": settings["S3_SECRET_KEY"],
            "region": "us-east-1",
            "allow_http": "true",
            "aws_conditional_put": "etag",
        },
    )


def _columns(
    table: DeltaTable, columns: Sequence[str], only: pc.Expression | None = None
) -> pa.Table:
    dataset = table.to_pyarrow_dataset()
    known = [name for name in columns if name in dataset.schema.names]
    return dataset.to_table(columns=known, filter=only)


def _retired(table: DeltaTable) -> Iterator[tuple[int, pc.Expression]]:
    """Yield the versions whose old rows were dropped next, and which rows those were."""
    for commit in table.history():
        if commit.get("operation") == "DELETE" and "gyral.before_us" in commit:
            moment = pa.scalar(int(commit["gyral.before_us"]), pa.timestamp("us", "UTC"))
            yield int(commit["gyral.read_version"]), ds.field(commit["gyral.column"]) < moment
