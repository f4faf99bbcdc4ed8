"""Remembers who had whom erased, how far that is, and what is no longer there."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from asyncpg import Record

from gyral.kit.db import Pool
from gyral.validation.domain.accounting import Place, Protection
from gyral.validation.domain.erasing import Erasure, Order, Traces
from gyral.validation.store.sinks import SinkTx

_COLUMNS = """seq, id, stream, subject, actor, because, asked_at, done_at, rows, parked,
              versions"""
_GONE = """value = '', kafka_key = NULL, header_names = '{}', header_values = '{}',
                   record_key = '', subject = NULL, erased_at = now()"""


@dataclass(frozen=True, slots=True)
class Anonymous:
    """Parked bytes of a stream that do not say whose they are."""

    id: int
    place: Place
    protection: Protection
    value: bytes


class ErasureTx(SinkTx):
    """A transaction that takes what is a subject's."""

    async def note_order(self, order: Order) -> None:
        """Write an order down, once however often it is given."""
        await self.conn.execute(
            """
            INSERT INTO erasure (id, stream, subject, actor, because, partitions, ends)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
                ON CONFLICT (id) DO NOTHING
            """,
            order.id,
            order.stream,
            order.subject,
            order.actor,
            order.because,
            list(order.through),
            list(order.through.values()),
        )

    async def note_traces(self, order: Order, topic: str, traces: Traces) -> None:
        """Write down where rows lay and which files held them, before any is written anew."""
        places = sorted(traces.places)
        await self.conn.execute(
            """
            INSERT INTO erased_row (topic, partition, "offset", row, erasure)
            SELECT $1, each.*, $5
              FROM unnest($2::integer[], $3::bigint[], $4::integer[]) AS each
                ON CONFLICT DO NOTHING
            """,
            topic,
            [partition for partition, _, _ in places],
            [offset for _, offset, _ in places],
            [row for _, _, row in places],
            order.id,
        )
        await self.conn.executemany(
            """
            INSERT INTO erased_file (erasure, path, first_version, end_version)
            VALUES ($1, $2, $3, $4)
                ON CONFLICT DO NOTHING
            """,
            [
                (order.id, path, *((None, None) if life is None else life))
                for path, life in sorted(traces.files.items())
            ],
        )

    async def anonymous(self, order: Order) -> list[Anonymous]:
        """Return what is parked of the stream and says nothing of whose it is."""
        rows = await self.conn.fetch(
            """
            SELECT id, topic, partition, "offset", row, protection, value
              FROM quarantine
              JOIN unnest($2::integer[], $3::bigint[]) AS log (partition, "end")
             USING (partition)
             WHERE stream = $1 AND subject IS NULL AND protection IS NOT NULL
               AND erased_at IS NULL AND "offset" < "end"
             ORDER BY id
            """,
            order.stream,
            list(order.through),
            list(order.through.values()),
        )
        return [
            Anonymous(
                row["id"],
                Place(row["topic"], row["partition"], row["offset"], row["row"]),
                Protection(row["protection"]),
                row["value"],
            )
            for row in rows
        ]

    async def empty(self, order: Order, others: Sequence[int]) -> None:
        """Let the bytes go of what is parked of the subject, and of these other rows."""
        await self.conn.execute(
            f"""
            WITH gone AS (
                UPDATE quarantine AS row SET {_GONE}
                  FROM unnest($3::integer[], $4::bigint[]) AS log (partition, "end")
                 WHERE row.stream = $1 AND row.protection IS NOT NULL AND row.erased_at IS NULL
                   AND (row.id = ANY($5)
                        OR (row.subject = $2 AND log.partition = row.partition
                            AND row."offset" < log."end"))
                   AND log.partition = row.partition
                RETURNING row.id
            )
            UPDATE erasure SET parked = parked + (SELECT count(*) FROM gone) WHERE id = $6
            """,  # noqa: S608 - a constant
            order.stream,
            order.subject,
            list(order.through),
            list(order.through.values()),
            list(others),
            order.id,
        )

    async def end(self, order: Order) -> None:
        """Say that an order is carried out, and which announced versions it took from."""
        await self.conn.execute(
            """
            UPDATE erasure
               SET done_at = now(),
                   rows = (SELECT count(*) FROM erased_row WHERE erasure = $1),
                   versions = ARRAY(
                       SELECT DISTINCT version
                         FROM dataset
                         JOIN erased_file AS file
                           ON version >= first_version AND version < end_version
                        WHERE dataset.stream = $2 AND file.erasure = $1
                        ORDER BY version)
             WHERE id = $1 AND done_at IS NULL
            """,
            order.id,
            order.stream,
        )


class Erasures:
    """Reads orders; and lets go of what is parked when its time is over."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def open(self) -> list[Order]:
        """Return the orders that are not carried out, oldest first."""
        rows = await self._pool.fetch(
            """
            SELECT id, stream, subject, actor, because, partitions, ends
              FROM erasure
             WHERE done_at IS NULL
             ORDER BY seq
            """
        )
        return [
            Order(
                row["id"],
                row["stream"],
                row["subject"],
                row["actor"],
                row["because"],
                dict(zip(row["partitions"], row["ends"], strict=True)),
            )
            for row in rows
        ]

    async def find(self, id_: UUID) -> Erasure | None:
        """Return one order and what it came to, or None."""
        row = await self._pool.fetchrow(
            f"SELECT {_COLUMNS} FROM erasure WHERE id = $1",  # noqa: S608 - a constant
            id_,
        )
        return None if row is None else _erasure(row)

    async def page(self, stream: str | None, *, after: int, limit: int) -> list[Erasure]:
        """Return orders, oldest first."""
        rows = await self._pool.fetch(
            f"""
            SELECT {_COLUMNS}
              FROM erasure
             WHERE ($1::text IS NULL OR stream = $1) AND seq > $2
             ORDER BY seq
             LIMIT $3
            """,  # noqa: S608 - a constant
            stream,
            after,
            limit,
        )
        return [_erasure(row) for row in rows]

    async def expire(self, days: float) -> None:
        """Let the bytes go of what was parked, encrypted, so many days ago."""
        await self._pool.execute(
            f"""
            UPDATE quarantine SET {_GONE}
             WHERE protection IS NOT NULL AND erased_at IS NULL
               AND quarantined_at < now() - make_interval(secs => $1)
            """,  # noqa: S608 - a constant
            days * 86_400,
        )


def _erasure(row: Record) -> Erasure:
    return Erasure(**{**row, "versions": tuple(row["versions"])})
