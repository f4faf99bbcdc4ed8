"""Looks up what of predictions, labels and offsets is remembered."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from gyral.kit.db import Pool
from gyral.validation.domain.standing import Standing
from gyral.validation.store.sinks import standing_of


@dataclass(frozen=True, slots=True)
class Forward:
    """A watermark that readers of labels are still to be told."""

    stream: str
    watermark_us: int


class Lookups:
    """Reads outside any transaction: only this process writes what it asks for."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def predictions(self, request_ids: Sequence[str]) -> set[tuple[str, str]]:
        """Return which answers of these requests were logged: (request id, role)."""
        rows = await self._pool.fetch(
            """
            SELECT request_id, role FROM prediction_identity
             WHERE request_id = ANY($1::uuid[])
            """,
            [UUID(request_id) for request_id in request_ids],
        )
        return {(str(row["request_id"]), row["role"]) for row in rows}

    async def standing(self, stream: str) -> Standing | None:
        """Return the newest version of a stream's table whose content is known."""
        row = await self._pool.fetchrow(
            """
            SELECT table_version, table_rows, table_content, table_schema_version
              FROM stream_progress
             WHERE stream = $1
            """,
            stream,
        )
        return None if row is None else standing_of(row)

    async def watermark(self, stream: str) -> int | None:
        """Return how far a stream's time has come."""
        reached: int | None = await self._pool.fetchval(
            "SELECT watermark_us FROM stream_progress WHERE stream = $1", stream
        )
        return reached

    async def unforwarded(self, streams: Sequence[str]) -> list[Forward]:
        """Return the watermarks of these streams that were committed and not yet told."""
        rows = await self._pool.fetch(
            """
            SELECT stream, forward_us
              FROM stream_progress
             WHERE stream = ANY($1::text[]) AND forward_us > coalesce(forwarded_us, -1)
             ORDER BY stream
            """,
            list(streams),
        )
        return [Forward(row["stream"], row["forward_us"]) for row in rows]

    async def forwarded(self, told: Forward) -> None:
        """Remember that readers of labels were told."""
        await self._pool.execute(
            """
            UPDATE stream_progress SET forwarded_us = greatest(forwarded_us, $2)
             WHERE stream = $1
            """,
            told.stream,
            told.watermark_us,
        )

    async def stored_offsets(self, sink: str, topic: str) -> dict[int, int]:
        """Return the next offset of each partition of a topic."""
        rows = await self._pool.fetch(
            "SELECT partition, next_offset FROM sink_offset WHERE sink = $1 AND topic = $2",
            sink,
            topic,
        )
        return {row["partition"]: row["next_offset"] for row in rows}

    async def forget_predictions(self, hours: float) -> None:
        """Forget answers that were logged longer ago than Kafka keeps them."""
        await self._pool.execute(
            "DELETE FROM prediction_identity WHERE seen_at < now() - make_interval(secs => $1)",
            hours * 3600,
        )

    async def forget_duplicates(self, hours: float) -> None:
        """Forget where repeated rows lay that Kafka does not hold any more."""
        await self._pool.execute(
            "DELETE FROM duplicate_span WHERE counted_at < now() - make_interval(secs => $1)",
            hours * 3600,
        )
