"""Which versions took over, by the registry's audit log and not by what the replay watched."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

_TAKEN_OVER = """
    SELECT (audit.change ->> 'after')::integer, audit.actor, audit.reason,
           version.request_id::text, version.cause, version.as_of,
           EXISTS (SELECT FROM monitor.request WHERE request_id = version.request_id),
           coalesce(version.state = 'approved'
                    AND jsonb_array_length(version.checks) > 0
                    AND NOT version.checks @> '[{"passed": false}]', false)
      FROM registry.audit
      LEFT JOIN registry.version
        ON version.model = $1 AND version.version = (audit.change ->> 'after')::integer
     WHERE audit.action = 'champion.changed'
       AND audit.subject = $1 || '@' || (audit.change ->> 'after')
       AND audit.change ->> 'before' IS NOT NULL
     ORDER BY audit.seq
"""


@dataclass(frozen=True, slots=True)
class Promotion:
    """A version that took over from another; the bootstrap is none."""

    version: int
    actor: str
    reason: str
    """Why it took over."""
    request_id: str | None
    cause: str | None
    """Why it was trained."""
    as_of: datetime | None
    by_monitor: bool
    """Whether it was the monitor that asked for its training."""
    passing_verdict: bool
    """Whether the registry approved it and every check of its verdict passed."""


async def of_model(connection: asyncpg.Connection, model: str) -> Sequence[Promotion]:
    """Return a model's promotions, oldest first, as the services' tables tell of them."""
    return [Promotion(*row) for row in await connection.fetch(_TAKEN_OVER, model)]
