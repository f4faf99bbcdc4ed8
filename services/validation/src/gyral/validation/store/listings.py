"""What the API shows, and the transaction that puts refused records back."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Record

from gyral.kit.db import Pool
from gyral.kit.tx import Tx
from gyral.validation.domain.accounting import Place
from gyral.validation.store.sinks import Progress


@dataclass(frozen=True, slots=True)
class Dataset:
    """An announced version of a stream's table."""

    id: int
    stream: str
    version: int
    watermark_us: int
    rows: int
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record in quarantine, its bytes in base64."""

    id: int
    topic: str
    partition: int
    offset: int
    stream: str
    record_key: str
    schema_version: int | None
    reason: str
    detail: str
    value_base64: str
    quarantined_at: datetime
    replayed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Original:
    """A refused record as it came."""

    id: int
    place: Place
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Listings:
    """Read-only answers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def progress(self, stream: str) -> Progress | None:
        """Return how far a stream has come, or None when nothing of it was ever seen."""
        row = await self._pool.fetchrow(
            """
            SELECT watermark_us, forward_us, table_version, rows, quarantined, duplicates
              FROM stream_progress
             WHERE stream = $1
            """,
            stream,
        )
        return None if row is None else Progress(*row.values())

    async def datasets(self, stream: str | None, *, after: int, limit: int) -> list[Dataset]:
        """Return announced versions, oldest first."""
        rows = await self._pool.fetch(
            """
            SELECT id, stream, version, watermark_us, rows, committed_at
              FROM dataset
             WHERE ($1::text IS NULL OR stream = $1) AND id > $2
             ORDER BY id
             LIMIT $3
            """,
            stream,
            after,
            limit,
        )
        return [Dataset(*row.values()) for row in rows]

    async def quarantine(self, stream: str | None, *, after: int, limit: int) -> list[Refusal]:
        """Return refused records, oldest first."""
        rows = await self._pool.fetch(
            """
            SELECT id, topic, partition, "offset", stream, record_key, schema_version, reason,
                   detail, value, quarantined_at, replayed_at
              FROM quarantine
             WHERE ($1::text IS NULL OR stream = $1) AND id > $2
             ORDER BY id
             LIMIT $3
            """,
            stream,
            after,
            limit,
        )
        return [_refusal(row) for row in rows]


class ReplayTx(Tx):
    """A transaction that puts refused records back: they count as replayed when it commits."""

    async def take(
        self, stream: str, ids: Sequence[int] | None, *, limit: int
    ) -> list[Original]:
        """Return records that were never replayed, and count them as such."""
        rows = await self.conn.fetch(
            """
            WITH chosen AS (
                SELECT id FROM quarantine
                 WHERE stream = $1 AND replayed_at IS NULL
                   AND ($2::bigint[] IS NULL OR id = ANY($2))
                 ORDER BY id
                 LIMIT $3
                   FOR UPDATE SKIP LOCKED
            )
            UPDATE quarantine AS row SET replayed_at = now()
              FROM chosen
             WHERE row.id = chosen.id
            RETURNING row.id, row.topic, row.partition, row."offset", row.kafka_key, row.value,
                      row.header_names, row.header_values
            """,
            stream,
            None if ids is None else list(ids),
            limit,
        )
        taken = [
            Original(
                row["id"],
                Place(row["topic"], row["partition"], row["offset"]),
                row["kafka_key"],
                row["value"],
                tuple(zip(row["header_names"], row["header_values"], strict=True)),
            )
            for row in rows
        ]
        return sorted(taken, key=lambda original: original.place)

    async def note(self, stream: str, ids: Sequence[int], actor: str) -> None:
        """Write down who had which records replayed."""
        await self.conn.execute(
            "INSERT INTO quarantine_replay (stream, rows, actor) VALUES ($1, $2, $3)",
            stream,
            list(ids),
            actor,
        )


def _refusal(row: Record) -> Refusal:
    return Refusal(
        id=row["id"],
        topic=row["topic"],
        partition=row["partition"],
        offset=row["offset"],
        stream=row["stream"],
        record_key=row["record_key"],
        schema_version=row["schema_version"],
        reason=row["reason"],
        detail=row["detail"],
        value_base64=base64.b64encode(row["value"]).decode(),
        quarantined_at=row["quarantined_at"],
        replayed_at=row["replayed_at"],
    )
