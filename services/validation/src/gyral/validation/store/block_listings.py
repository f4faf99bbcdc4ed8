"""Reads what came out of blocks, for the API."""

from dataclasses import dataclass
from datetime import datetime

from gyral.kit.db import Pool


@dataclass(frozen=True, slots=True)
class JudgedBlock:
    """One outcome of one expectation."""

    id: int
    stream: str
    expectation: str
    kind: str
    field: str | None
    severity: str
    start_us: int
    end_us: int
    rows: int
    measured: float | None
    expected: str
    outcome: str
    judged_at: datetime
    released_at: datetime | None
    released_by: str | None
    release_reason: str | None


class BlockListings:
    """Read-only answers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def blocks(
        self, stream: str, *, held: bool, after: int, limit: int
    ) -> list[JudgedBlock]:
        """Return a stream's judged blocks in the order of judgement, all or those held back."""
        rows = await self._pool.fetch(
            """
            SELECT id, stream, expectation, kind, field, severity, start_us, end_us, rows,
                   measured, expected, outcome, judged_at, released_at, released_by,
                   release_reason
              FROM judged_block
             WHERE stream = $1 AND id > $3
               AND (NOT $2 OR (outcome = 'failed' AND severity = 'block'
                               AND released_at IS NULL))
             ORDER BY id
             LIMIT $4
            """,
            stream,
            held,
            after,
            limit,
        )
        return [JudgedBlock(*row.values()) for row in rows]
