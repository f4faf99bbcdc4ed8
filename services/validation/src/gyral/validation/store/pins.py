"""Which versions of a stream's table must stay readable, however old they are."""

from collections.abc import Sequence
from datetime import datetime

from gyral.contracts.names import DatasetPin
from gyral.kit.db import Pool


class Pins:
    """Remembers what runs were trained on, for longer than the topic that tells of them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def keep(self, pins: Sequence[DatasetPin]) -> None:
        """Write down versions that a run reads, once each."""
        await self._pool.execute(
            """
            INSERT INTO pin (stream, version)
            SELECT * FROM unnest($1::text[], $2::bigint[])
                ON CONFLICT DO NOTHING
            """,
            [pin.stream for pin in pins],
            [pin.version for pin in pins],
        )

    async def of(self, stream: str, before: datetime) -> list[int]:
        """Return the versions that runs read, and the one that was newest at a moment.

        A run begins with the newest version it was told of, which may be old where nothing
        was announced since.
        """
        rows = await self._pool.fetch(
            """
            SELECT version FROM pin WHERE stream = $1
            UNION
            (SELECT version FROM dataset
              WHERE stream = $1 AND committed_at <= $2
              ORDER BY id DESC LIMIT 1)
             ORDER BY version
            """,
            stream,
            before,
        )
        return [row["version"] for row in rows]
