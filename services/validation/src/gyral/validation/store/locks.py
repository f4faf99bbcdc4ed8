"""Locks between the processes of this service, for work that only one may do at a time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gyral.kit.db import connected

_LEASE_S = 900.0
"""Longer than any work done alone."""


class Locks:
    """Named locks: one of the session, which a process that stands still keeps, and a lease.

    The session's ends with its connection, though the work may go on in a thread; so a name
    that was not given back is nobody's until its lease has passed.

    Each has a connection of its own while it lasts: minutes, for which a pool's would be
    missing to those that write offsets.
    """

    def __init__(self, dsn: str, *, lease_s: float = _LEASE_S) -> None:
        self._dsn = dsn
        self._lease_s = lease_s

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[bool]:
        """Tell whether the name is ours for the block; False when another process has it."""
        async with connected(self._dsn) as conn:
            taken: bool = await conn.fetchval(
                """
                SELECT pg_try_advisory_lock(
                    hashtextextended(current_schema() || '/' || $1, 0))
                """,
                name,
            )
            if not taken:
                yield False
                return
            try:
                leased = await conn.fetchval(
                    """
                    INSERT INTO lease (name, until)
                    VALUES ($1, now() + make_interval(secs => $2))
                        ON CONFLICT (name) DO UPDATE SET until = excluded.until
                     WHERE lease.until < now()
                    RETURNING true
                    """,
                    name,
                    self._lease_s,
                )
                try:
                    yield leased is not None
                finally:
                    if leased is not None and not conn.is_closed():
                        await conn.execute("DELETE FROM lease WHERE name = $1", name)
            finally:
                if not conn.is_closed():
                    await conn.execute(
                        """
                        SELECT pg_advisory_unlock(
                            hashtextextended(current_schema() || '/' || $1, 0))
                        """,
                        name,
                    )
