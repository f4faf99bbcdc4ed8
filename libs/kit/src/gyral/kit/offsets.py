"""How far a sink got, moved by compare-and-set in the transaction that moves its output."""

from collections.abc import Iterable
from typing import TypeAlias

from gyral.kit.db import Connection, Pool

Move: TypeAlias = tuple[str, int, int | None, int]
"""Topic, partition, the offset we believe is stored (None: no row yet), the next one."""


class Fenced(Exception):  # noqa: N818 - a fact about us, not a fault
    """Another process moved this sink's offset: what we hold is not ours to write."""


async def stored(pool: Pool, sink: str, topic: str, partition: int) -> int | None:
    """Return the next offset to consume, or None when nothing was ever committed."""
    offset: int | None = await pool.fetchval(
        "SELECT next_offset FROM sink_offset WHERE sink = $1 AND topic = $2 AND partition = $3",
        sink,
        topic,
        partition,
    )
    return offset


async def advance(conn: Connection, sink: str, moves: Iterable[Move]) -> None:
    """Move offsets from what we believe them to be to where the output ends.

    Args:
        conn: inside the transaction that writes the output.
        sink: name of the consumer group.
        moves: at most one a partition.

    Raises:
        Fenced: an offset is not what we believed.
    """
    for topic, partition, expected, upcoming in sorted(moves, key=lambda move: move[:2]):
        moved = await conn.fetchval(
            """
            INSERT INTO sink_offset AS known (sink, topic, partition, next_offset)
            VALUES ($1, $2, $3, $5)
                ON CONFLICT (sink, topic, partition)
                DO UPDATE SET next_offset = excluded.next_offset, moved_at = now()
             WHERE known.next_offset = $4
            RETURNING true
            """,
            sink,
            topic,
            partition,
            expected,
            upcoming,
        )
        if not moved:
            raise Fenced(
                f"{sink}: {topic}/{partition}: expected to continue at {expected};"
                " another process moved it"
            )
