"""The quarantine: listed, exported, and the transaction that puts refused rows back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from asyncpg import Record

from gyral.kit.db import Pool
from gyral.kit.outbox import MOST_RECORD_BYTES
from gyral.kit.replays import Kind, ReplayOrder, ReplayTx
from gyral.validation.domain.accounting import Place, Protection

MOST_BYTES = 8 << 20
"""Bytes of one page's or order's rows; a single larger row comes all the same."""
_COLUMNS = """id, topic, partition, "offset", row, stream, record_key, schema_version, reason,
              detail, octet_length(value) AS size_bytes, quarantined_at, replayed_at, replay_id,
              origin, protection, erased_at"""
_CHOSEN = """($1::text IS NULL OR stream = $1)
               AND ($2::text IS NULL OR reason = $2)
               AND ($3::timestamptz IS NULL OR quarantined_at >= $3)
               AND ($4::bigint[] IS NULL OR id = ANY($4))
               AND ($5::boolean IS NULL OR (replayed_at IS NOT NULL) = $5)
               AND ($6::timestamptz IS NULL OR quarantined_at < $6)"""

_SIZE = """octet_length(value) + octet_length(coalesce(kafka_key, ''))
           + octet_length(array_to_string(header_names, ''))
           + (SELECT coalesce(sum(octet_length(each)), 0) FROM unnest(header_values) AS each)"""


class State(StrEnum):
    """Whether a refused row was put back."""

    HELD = "held"
    REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which refused rows are meant; None means any."""

    stream: str | None = None
    reason: str | None = None
    since: datetime | None = None
    ids: Sequence[int] | None = None
    state: State | None = None
    before: datetime | None = None
    """Refused before that time."""

    def arguments(self) -> tuple[object, ...]:
        """Return what stands for $1 to $6."""
        ids = None if self.ids is None else list(self.ids)
        replayed = None if self.state is None else self.state is State.REPLAYED
        return self.stream, self.reason, self.since, ids, replayed, self.before


@dataclass(frozen=True, slots=True)
class Refused:
    """A row in quarantine; `after` of the next page is its `id`."""

    id: int
    topic: str
    partition: int
    offset: int
    row: int
    """Its place among the rows of its record."""
    stream: str
    record_key: str
    schema_version: int | None
    reason: str
    detail: str
    size_bytes: int
    quarantined_at: datetime
    replayed_at: datetime | None
    replay_id: UUID | None
    origin: int | None
    """The refused row that this one is the replay of."""
    protection: Protection | None
    """How its bytes are encrypted; None: they are as they came."""
    erased_at: datetime | None
    """When its bytes went; only its place is left."""


@dataclass(frozen=True, slots=True)
class Original:
    """A refused row as it came."""

    id: int
    place: Place
    stream: str
    reason: str
    protection: Protection | None
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


Whole = tuple[Refused, Original]


class Quarantine:
    """Read-only answers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, chosen: Chosen, *, after: int, limit: int) -> list[Refused]:
        """Return refused rows without their bytes, oldest first."""
        rows = await self._pool.fetch(
            f"""
            SELECT {_COLUMNS}
              FROM quarantine
             WHERE {_CHOSEN} AND id > $7
             ORDER BY id
             LIMIT $8
            """,  # noqa: S608 - constants
            *chosen.arguments(),
            after,
            limit,
        )
        return [_refused(row) for row in rows]

    async def export(self, chosen: Chosen, *, after: int, limit: int) -> list[Whole]:
        """Return refused rows with their bytes, oldest first: at most `MOST_BYTES` of them."""
        rows = await self._pool.fetch(
            f"""
            SELECT {_COLUMNS}, kafka_key, value, '{{}}'::text[] AS header_names,
                   '{{}}'::bytea[] AS header_values
              FROM quarantine
              JOIN (SELECT id AS at, row_number() OVER (ORDER BY id) AS nth,
                           sum(size) OVER (ORDER BY id) AS bytes
                      FROM (SELECT id, octet_length(value) AS size
                              FROM quarantine
                             WHERE {_CHOSEN} AND id > $7
                             ORDER BY id
                             LIMIT $8) AS page) AS counted
                ON id = at AND (bytes <= $9 OR nth = 1)
             ORDER BY id
            """,  # noqa: S608 - constants
            *chosen.arguments(),
            after,
            limit,
            MOST_BYTES,
        )
        return [(_refused(row), _original(row)) for row in rows]

    async def find(self, id_: int) -> Whole | None:
        """Return one refused row whole, or None."""
        row = await self._pool.fetchrow(
            f"""
            SELECT {_COLUMNS}, kafka_key, value, header_names, header_values
              FROM quarantine
             WHERE id = $1
            """,  # noqa: S608 - constants
            id_,
        )
        return None if row is None else (_refused(row), _original(row))


class QuarantineTx(ReplayTx):
    """A transaction that puts refused rows back: they count as replayed when it commits."""

    async def take(
        self, chosen: Chosen, order: ReplayOrder, *, limit: int, of_people: Sequence[str] = ()
    ) -> list[Original]:
        """Return rows that were never put back, oldest first, and count them as such.

        A record too large for its topic, as we would pack it, stays where it is; so does one
        that may name somebody and is of a stream with personal fields: it was kept off them.

        Kafka may hold two copies of a replay, and both may be refused: then they are the same
        row, to the last byte, and taking one counts both.
        """
        rows = await self.conn.fetch(
            f"""
            UPDATE quarantine SET replayed_at = now(), replay_id = $8
              FROM (SELECT id AS at, row_number() OVER (ORDER BY id) AS nth,
                           sum(size) OVER (ORDER BY id) AS bytes
                      FROM (SELECT id, size
                              FROM (SELECT id, {_SIZE} AS size
                                      FROM quarantine
                                     WHERE {_CHOSEN} AND erased_at IS NULL
                                       AND NOT (protection IS NOT DISTINCT FROM 'clear'
                                                AND stream = ANY($11))) AS held
                             WHERE size <= $9
                             ORDER BY id
                             LIMIT $7) AS page) AS counted
             WHERE id = at AND (bytes <= $10 OR nth = 1)
            RETURNING id, topic, partition, "offset", row, stream, reason, protection, origin,
                      kafka_key, value, header_names, header_values
            """,  # noqa: S608 - constants
            *replace(chosen, state=State.HELD).arguments(),
            limit,
            order.id,
            MOST_RECORD_BYTES,
            MOST_BYTES,
            list(of_people),
        )
        taken: dict[object, Original] = {}
        for row in sorted(rows, key=lambda row: row["id"]):
            one = _original(row)
            record = (one.place.topic, one.key, one.value, one.headers)
            same = (row["origin"], row["row"], record)
            taken.setdefault(one.id if row["origin"] is None else same, one)
        await self._count_copies([one.id for one in taken.values()], order)
        return list(taken.values())

    async def note_rows(self, order: ReplayOrder, taken: Sequence[Original]) -> None:
        """Leave the entry of the audit."""
        await self.note(order, Kind.QUARANTINE, [str(one.id) for one in taken])

    async def _count_copies(self, taken: Sequence[int], order: ReplayOrder) -> None:
        await self.conn.execute(
            """
            UPDATE quarantine AS copy SET replayed_at = now(), replay_id = $2
              FROM quarantine AS one
             WHERE one.id = ANY($1) AND copy.origin = one.origin AND copy.replayed_at IS NULL
               AND (copy.topic, copy.value, copy.header_names, copy.header_values)
                   = (one.topic, one.value, one.header_names, one.header_values)
               AND copy.kafka_key IS NOT DISTINCT FROM one.kafka_key
               AND copy.row = one.row
            """,
            list(taken),
            order.id,
        )


def _refused(row: Record) -> Refused:
    known = {name: row[name] for name in Refused.__slots__}
    return Refused(**{**known, "protection": _protection(row)})


def _protection(row: Record) -> Protection | None:
    return None if row["protection"] is None else Protection(row["protection"])


def _original(row: Record) -> Original:
    return Original(
        row["id"],
        Place(row["topic"], row["partition"], row["offset"], row["row"]),
        row["stream"],
        row["reason"],
        _protection(row),
        row["kafka_key"],
        row["value"],
        tuple(zip(row["header_names"], row["header_values"], strict=True)),
    )
