"""What the API shows of streams and datasets."""

from dataclasses import dataclass
from datetime import datetime

from gyral.kit.db import Pool
from gyral.validation.store.sinks import Progress, progress_of


@dataclass(frozen=True, slots=True)
class Dataset:
    """An announced version of a stream's table."""

    id: int
    stream: str
    version: int
    watermark_us: int
    usable_us: int
    rows: int
    content: str | None
    schema_version: int | None
    committed_at: datetime
    erased_at: datetime | None
    """When rows of somebody who was erased last left it."""


_ERASED = """(SELECT max(done_at) FROM erasure
                     WHERE erasure.stream = dataset.stream
                       AND dataset.version = ANY(versions))"""


class Listings:
    """Read-only answers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def progress(self, stream: str) -> Progress | None:
        """Return how far a stream has come, or None when nothing of it was ever seen."""
        row = await self._pool.fetchrow(
            """
            SELECT watermark_us, forward_us, table_version,
                   table_rows, table_content, table_schema_version,
                   rows, quarantined, duplicates, generation, usable_us
              FROM stream_progress
             WHERE stream = $1
            """,
            stream,
        )
        return None if row is None else progress_of(row)

    async def datasets(self, stream: str | None, *, after: int, limit: int) -> list[Dataset]:
        """Return announced versions, oldest first."""
        rows = await self._pool.fetch(
            f"""
            SELECT id, stream, version, watermark_us, usable_us, rows, content,
                   schema_version, committed_at, {_ERASED} AS erased_at
              FROM dataset
             WHERE ($1::text IS NULL OR stream = $1) AND id > $2
             ORDER BY id
             LIMIT $3
            """,  # noqa: S608 - a constant
            stream,
            after,
            limit,
        )
        return [Dataset(**row) for row in rows]

    async def dataset(self, stream: str, version: int | None) -> Dataset | None:
        """Return what was last announced of a stream, or of one version of it."""
        row = await self._pool.fetchrow(
            f"""
            SELECT id, stream, version, watermark_us, usable_us, rows, content,
                   schema_version, committed_at, {_ERASED} AS erased_at
              FROM dataset
             WHERE stream = $1 AND ($2::bigint IS NULL OR version = $2)
             ORDER BY id DESC
             LIMIT 1
            """,  # noqa: S608 - a constant
            stream,
            version,
        )
        return None if row is None else Dataset(**row)
