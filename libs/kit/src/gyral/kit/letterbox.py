"""Dead letters as their service keeps them: listed, shown, and put back to be handled once."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from asyncpg import Record

from gyral.kit import cloudevents, outbox
from gyral.kit.db import Pool
from gyral.kit.deadletters import REPLAY, DeadLetter
from gyral.kit.replays import Begun, Kind, ReplayOrder, ReplayTx
from gyral.kit.tx import Begin

MOST = 500
"""Letters one order puts back."""
MOST_BYTES = 16 << 20
"""Their values' bytes; a single larger one is put back all the same."""
LETTERS_KEPT_DAYS = 91
"""Longer than the topics of dead letters keep them."""
_COLUMNS = """seq, id, topic, partition, "offset", event_id, reason, error, attempts,
              coalesce(octet_length(value), 0) AS size_bytes, parked_at, state, settled_at,
              replay_id"""

_SIZE = """coalesce(octet_length(value), 0) + coalesce(octet_length(key), 0)
           + (SELECT coalesce(sum(octet_length(each)), 0)
                FROM unnest(header_names || header_values) AS each)"""


class State(StrEnum):
    """Where a dead letter has come to."""

    PARKED = "parked"
    REPLAYED = "replayed"
    """Put back; when it failed again, it is another letter now."""
    HANDLED = "handled"
    """Another delivery of the event was handled since: there was nothing to put back."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which letters are meant; None means any."""

    topic: str | None = None
    reason: str | None = None
    ids: Sequence[uuid.UUID] | None = None
    before: datetime | None = None
    """Parked before that time."""


@dataclass(frozen=True, slots=True)
class Letter:
    """An event this service could not handle; `after` of the next page is its `seq`."""

    seq: int
    id: uuid.UUID
    topic: str
    partition: int
    offset: int
    event_id: str
    reason: str
    error: str
    attempts: int
    size_bytes: int
    parked_at: datetime
    state: State
    settled_at: datetime | None
    replay_id: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class Original:
    """A letter's record as it came."""

    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes | None


@dataclass(frozen=True, slots=True)
class PutBack:
    """What an order came to."""

    replayed: tuple[str, ...] = ()
    handled: tuple[str, ...] = ()
    """Parked once, and handled since by another delivery: there was nothing left to do."""


class LetterTx(ReplayTx):
    """A transaction that keeps dead letters or puts them back."""

    async def keep(self, letter: DeadLetter, event_id: str) -> None:
        """Keep a letter; call it with its event claimed as parked."""
        record = letter.record
        await self.conn.execute(
            """
            INSERT INTO dead_letter (id, topic, partition, "offset", event_id, reason, error,
                                     attempts, key, header_names, header_values, value)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
                ON CONFLICT (id) DO NOTHING
            """,
            letter.id,
            record.topic,
            record.partition,
            record.offset,
            event_id,
            letter.reason.value,
            letter.error,
            letter.attempts,
            record.key,
            [name.encode() for name, _ in record.headers],
            [value for _, value in record.headers],
            record.value,
        )

    async def failed_in_a_row(self) -> int:
        """Return how many events were parked as bugs since one was last handled.

        Whoever puts a letter back answers for it: it counts no more.
        """
        failed: int = await self.conn.fetchval(
            """
            SELECT count(*)
              FROM dead_letter
             WHERE state = 'parked' AND reason = 'bug'
               AND parked_at > coalesce((SELECT max(claimed_at) FROM inbox WHERE NOT parked),
                                        '-infinity')
            """
        )
        return failed

    async def parked(self, chosen: Chosen) -> list[tuple[Letter, Original]]:
        """Return letters nobody put back yet, oldest first, as many as one order may.

        A record too large for its topic, as we would pack it, stays where it is.
        """
        rows = await self.conn.fetch(
            f"""
            SELECT {_COLUMNS}, key, header_names, header_values, value
              FROM dead_letter
              JOIN (SELECT seq AS place, row_number() OVER (ORDER BY seq) AS nth,
                           sum(coalesce(octet_length(value), 0)) OVER (ORDER BY seq) AS bytes
                      FROM (SELECT seq, value
                              FROM dead_letter
                             WHERE state = 'parked'
                               AND ($1::text IS NULL OR topic = $1)
                               AND ($2::text IS NULL OR reason = $2)
                               AND ($3::uuid[] IS NULL OR id = ANY($3))
                               AND {_SIZE} <= $6
                               AND ($7::timestamptz IS NULL OR parked_at < $7)
                             ORDER BY seq
                             LIMIT $4) AS page) AS counted
                ON seq = place AND (bytes <= $5 OR nth = 1)
             ORDER BY seq
            """,  # noqa: S608 - a constant list of columns
            chosen.topic,
            chosen.reason,
            None if chosen.ids is None else list(chosen.ids),
            MOST,
            MOST_BYTES,
            outbox.MOST_RECORD_BYTES,
            chosen.before,
        )
        return [(_letter(row), _original(row)) for row in rows]

    async def release(self, letter: Letter) -> bool:
        """Give the event's inbox row up; False when it is that of an event handled since."""
        consumer = f"{self.service}/{letter.topic}"
        await self.conn.execute(
            "DELETE FROM inbox WHERE consumer = $1 AND event_id = $2 AND parked",
            consumer,
            letter.event_id,
        )
        handled: bool = await self.conn.fetchval(
            "SELECT EXISTS (SELECT FROM inbox WHERE consumer = $1 AND event_id = $2)",
            consumer,
            letter.event_id,
        )
        return not handled

    async def settle(self, letter: Letter, state: str, replay_id: uuid.UUID) -> None:
        """Say how a letter ended."""
        await self.conn.execute(
            """
            UPDATE dead_letter SET state = $2, settled_at = now(), replay_id = $3
             WHERE seq = $1
            """,
            letter.seq,
            state,
            replay_id,
        )

    async def settled_by(self, replay_id: uuid.UUID) -> PutBack:
        """Return what an order came to when it was carried out."""
        rows = await self.conn.fetch(
            "SELECT id::text, state FROM dead_letter WHERE replay_id = $1 ORDER BY seq",
            replay_id,
        )
        return PutBack(
            tuple(row["id"] for row in rows if row["state"] == "replayed"),
            tuple(row["id"] for row in rows if row["state"] == "handled"),
        )


@dataclass(frozen=True, slots=True)
class Letterbox:
    """A service's dead letters."""

    pool: Pool
    begin: Begin[LetterTx]

    async def page(
        self, chosen: Chosen, *, state: str | None, after: int, limit: int
    ) -> list[Letter]:
        """Return letters, oldest first."""
        rows = await self.pool.fetch(
            f"""
            SELECT {_COLUMNS}
              FROM dead_letter
             WHERE seq > $1
               AND ($2::text IS NULL OR topic = $2)
               AND ($3::text IS NULL OR reason = $3)
               AND ($4::text IS NULL OR state = $4)
             ORDER BY seq
             LIMIT $5
            """,  # noqa: S608 - a constant list of columns
            after,
            chosen.topic,
            chosen.reason,
            state,
            limit,
        )
        return [_letter(row) for row in rows]

    async def find(self, id_: uuid.UUID) -> tuple[Letter, Original] | None:
        """Return one letter whole, or None."""
        row = await self.pool.fetchrow(
            f"""
            SELECT {_COLUMNS}, key, header_names, header_values, value
              FROM dead_letter
             WHERE id = $1
            """,  # noqa: S608 - a constant list of columns
            id_,
        )
        return None if row is None else (_letter(row), _original(row))

    async def put_back(self, chosen: Chosen, order: ReplayOrder) -> tuple[Begun, PutBack]:
        """Put letters back on their topics, each once, with the order's entry in the audit.

        In one transaction the letter is settled, its inbox row given up and its record put into
        the outbox. Then whichever copy comes first is handled, and claims the event for good.
        """
        async with self.begin() as tx:
            begun = await tx.begin_replay(order)
            if begun.items is not None:
                return begun, await tx.settled_by(order.id)
            for letter, original in await tx.parked(chosen):
                if await tx.release(letter):
                    await tx.settle(letter, "replayed", order.id)
                    await tx.forward(_again(letter, original, tx.service, order))
                else:
                    await tx.settle(letter, "handled", order.id)
            done = await tx.settled_by(order.id)
            if done != PutBack():
                await tx.note(order, Kind.DEAD_LETTER, [*done.replayed, *done.handled])
        return begun, done


async def forget_letters(pool: Pool, *, older_than_days: int = LETTERS_KEPT_DAYS) -> None:
    """Drop letters that their topic has dropped too; who put what back stays known."""
    await pool.execute(
        "DELETE FROM dead_letter WHERE parked_at < now() - make_interval(days => $1)",
        older_than_days,
    )


def _again(
    letter: Letter, original: Original, service: str, order: ReplayOrder
) -> outbox.Message:
    """Return the record as it came, its key, id and bytes the same, marked as a replay."""
    place = f"{letter.topic}/{letter.partition}/{letter.offset}"
    headers = [(name, value) for name, value in original.headers if name != REPLAY]
    if all(name != cloudevents.PLACE for name, _ in headers):
        headers.append((cloudevents.PLACE, place.encode()))
    return outbox.Message(
        event_id=f"replay/{order.id}/{letter.id}",
        topic=letter.topic,
        key=original.key,
        headers=[*headers, (REPLAY, f"{service}/{order.id}".encode())],
        value=original.value,
        partition=letter.partition,
    )


def _letter(row: Record) -> Letter:
    known = {name: row[name] for name in Letter.__slots__}
    return Letter(**{**known, "state": State(row["state"])})


def _original(row: Record) -> Original:
    names = (name.decode() for name in row["header_names"])
    return Original(
        row["key"], tuple(zip(names, row["header_values"], strict=True)), row["value"]
    )
