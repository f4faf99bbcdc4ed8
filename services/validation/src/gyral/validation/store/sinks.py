"""Writes identities, event time and progress, in the transaction that moves the offsets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from asyncpg import Record

from gyral.modelling.contents import Content
from gyral.validation.domain.standing import Standing
from gyral.validation.domain.watermark import PartitionTime
from gyral.validation.store.blocks import BlockTx
from gyral.validation.store.memory import Learned


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stream has come, and what of it others were told."""

    watermark_us: int | None = None
    forward_us: int | None = None
    """What may be told to the readers of labels."""
    standing: Standing | None = None
    """The newest version of its table, and what that holds."""
    rows: int = 0
    """Accepted, since the stream began."""
    quarantined: int = 0
    duplicates: int = 0
    generation: int = 0
    """Newest declaration whose expectations count; 0 while there never was any."""
    usable_us: int | None = None
    """Up to when rows may be learned from."""


class SinkTx(BlockTx):
    """A transaction of a sink."""

    async def locked_progress(self, streams: Sequence[str]) -> dict[str, Progress]:
        """Return the streams' progress and hold it: the last to come sees what others did."""
        await self.conn.execute(
            """
            INSERT INTO stream_progress (stream)
            SELECT name FROM unnest($1::text[]) AS name ORDER BY name
                ON CONFLICT DO NOTHING
            """,
            sorted(streams),
        )
        rows = await self.conn.fetch(
            """
            SELECT stream, watermark_us, forward_us, table_version,
                   table_rows, table_content, table_schema_version,
                   rows, quarantined, duplicates, generation, usable_us
              FROM stream_progress
             WHERE stream = ANY($1::text[])
             ORDER BY stream
               FOR UPDATE
            """,
            sorted(streams),
        )
        return {row["stream"]: progress_of(row) for row in rows}

    async def save_progress(self, stream: str, progress: Progress) -> None:
        """Write a stream's progress."""
        await self.conn.execute(
            """
            UPDATE stream_progress
               SET watermark_us = $2, forward_us = $3, table_version = $4,
                   table_rows = $5, table_content = $6, table_schema_version = $7,
                   rows = $8, quarantined = $9, duplicates = $10,
                   generation = $11, usable_us = $12
             WHERE stream = $1
            """,
            stream,
            progress.watermark_us,
            progress.forward_us,
            *(_columns(progress.standing) if progress.standing else (None,) * 4),
            progress.rows,
            progress.quarantined,
            progress.duplicates,
            progress.generation,
            progress.usable_us,
        )

    async def merge_times(
        self, stream: str, seen: Mapping[int, PartitionTime]
    ) -> dict[int, PartitionTime]:
        """Add what partitions have shown and return all; call with the progress held."""
        await self.conn.executemany(
            """
            INSERT INTO partition_time AS known (stream, partition, data_us, marker_us, idle_us)
            VALUES ($1, $2, $3, $4, $5)
                ON CONFLICT (stream, partition)
                DO UPDATE SET data_us   = greatest(known.data_us, excluded.data_us),
                              marker_us = greatest(known.marker_us, excluded.marker_us),
                              idle_us   = greatest(known.idle_us, excluded.idle_us)
            """,
            [
                (stream, partition, time.data_us, time.marker_us, time.idle_us)
                for partition, time in sorted(seen.items())
            ],
        )
        return await self.partition_times(stream)

    async def partition_times(self, stream: str) -> dict[int, PartitionTime]:
        """Return what each partition has shown of a stream."""
        rows = await self.conn.fetch(
            """
            SELECT partition, data_us, marker_us, idle_us FROM partition_time WHERE stream = $1
            """,
            stream,
        )
        return {
            row["partition"]: PartitionTime(row["data_us"], row["marker_us"], row["idle_us"])
            for row in rows
        }

    async def remember(self, learned: Learned) -> int:
        """Write accepted rows down as a segment and return its id."""
        if learned.instead_of:
            await self.conn.execute(
                "DELETE FROM identity_segment WHERE id = ANY($1::bigint[])",
                list(learned.instead_of),
            )
        rows = learned.segment.rows
        written: int = await self.conn.fetchval(
            """
            INSERT INTO identity_segment (stream, partition, rows, newest_us, columns, seen_at)
            VALUES ($1, $2, $3, $4, $5, $6)
            RETURNING id
            """,
            learned.stream,
            learned.partition,
            len(rows),
            learned.newest_us,
            rows.to_bytes(),
            datetime.fromtimestamp(learned.seen_us / 1e6, UTC),
        )
        return written

    async def remember_predictions(self, identities: Sequence[tuple[str, str]]) -> None:
        """Remember logged answers by request and role."""
        await self.conn.execute(
            """
            INSERT INTO prediction_identity (request_id, role)
            SELECT * FROM unnest($1::uuid[], $2::text[])
                ON CONFLICT DO NOTHING
            """,
            [request_id for request_id, _ in identities],
            [role for _, role in identities],
        )

    async def add_dataset(
        self, stream: str, standing: Standing, watermark_us: int, *, usable_us: int
    ) -> None:
        """Write down a dataset version as it is announced."""
        await self.conn.execute(
            """
            INSERT INTO dataset (stream, watermark_us, usable_us, version, rows, content,
                                 schema_version)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            """,
            stream,
            watermark_us,
            usable_us,
            *_columns(standing),
        )


def progress_of(row: Record) -> Progress:
    """Return a stream's progress as its row tells it."""
    return Progress(
        watermark_us=row["watermark_us"],
        forward_us=row["forward_us"],
        standing=standing_of(row),
        rows=row["rows"],
        quarantined=row["quarantined"],
        duplicates=row["duplicates"],
        generation=row["generation"],
        usable_us=row["usable_us"],
    )


def standing_of(row: Record) -> Standing | None:
    """Return what is known of a table's version; None where its content is not."""
    if row["table_content"] is None:
        return None
    content = Content.told(row["table_rows"], row["table_content"])
    return Standing(row["table_version"], content, row["table_schema_version"])


def _columns(standing: Standing) -> tuple[int, int, str, int]:
    content = standing.content
    return standing.version, content.rows, content.digest, standing.schema_version
