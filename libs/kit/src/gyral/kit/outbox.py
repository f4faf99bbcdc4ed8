"""The outbox: events stored with the state that caused them, then relayed to Kafka in order."""

import asyncio
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import asyncpg
from aiokafka import AIOKafkaProducer
from opentelemetry.metrics import CallbackOptions, Observation

from gyral.kit.backoff import Backoff
from gyral.kit.db import INFRASTRUCTURE, Connection, Pool, is_infrastructure
from gyral.kit.producer import open_producer
from gyral.kit.telemetry import get_log, get_meter

SHARDS = 8
MOST_RECORD_BYTES = (4 << 20) - (64 << 10)
"""Key, headers and value that surely fit into a request of the producer and into a topic."""
_SEND_S = 30.0
log = get_log()


@dataclass(frozen=True, slots=True)
class Message:
    """One record on its way to Kafka."""

    event_id: str
    topic: str
    key: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    value: bytes | None
    partition: int | None = None
    """Where it must go; None leaves it to the key."""


def shard_of(key: bytes | None) -> int:
    """Return the shard of a key: one key, one shard, one order."""
    return zlib.crc32(key or b"") % SHARDS


async def store(conn: Connection, messages: Sequence[Message]) -> None:
    """Write messages in the caller's transaction; call it last.

    The shard's lock is held until the commit, so sequence numbers commit in order: the relay
    cannot see a later event of a key before an earlier one.
    """
    if not messages:
        return
    rows = [
        (
            shard_of(message.key),
            message.event_id,
            message.topic,
            message.key,
            [name.encode() for name, _ in message.headers],
            [value for _, value in message.headers],
            message.value,
            message.partition,
        )
        for message in messages
    ]
    for shard in sorted({row[0] for row in rows}):
        await conn.execute(
            "SELECT pg_advisory_xact_lock(hashtext('outbox.store.' || current_schema()), $1)",
            shard,
        )
    await conn.executemany(
        """
        INSERT INTO outbox (shard, event_id, topic, key, header_names, header_values, value,
                            partition)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (event_id) DO NOTHING
        """,
        rows,
    )
    await conn.execute("SELECT pg_notify('outbox_' || current_schema(), '')")


class Relay:
    """Moves the outbox to Kafka: at least once, in each key's order, one process a shard."""

    def __init__(
        self, pool: Pool, brokers: str, *, batch: int = 500, poll_s: float = 1.0
    ) -> None:
        self._pool = pool
        self._brokers = brokers
        self._batch = batch
        self._poll_s = poll_s
        self._kick = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._depth = 0
        self._age_s = 0.0
        meter = get_meter()
        meter.create_observable_gauge(
            "gyral_outbox_depth", [self._observe_depth], description="Events not yet sent"
        )
        meter.create_observable_gauge(
            "gyral_outbox_age_seconds", [self._observe_age], description="Age of the oldest"
        )
        self._sent = meter.create_counter(
            "gyral_outbox_sent", description="Events sent to Kafka"
        )

    async def start(self) -> None:
        """Start moving events in the background."""
        self._stopping = False
        self._task = asyncio.create_task(self.run(), name="relay")

    async def stop(self, *, drain_s: float = 10.0) -> None:
        """Send what is committed, for at most `drain_s`, then end."""
        self._stopping = True
        self._kick.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=drain_s)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    def healthy(self) -> str | None:
        """Answer None while the loop lives; a Kafka that is away is waited for."""
        if self._task is None:
            return None if self._stopping else "relay: expected it to run; found it not started"
        return f"relay: the loop has ended: {self._task}" if self._task.done() else None

    async def run(self) -> None:
        """Move events until stopped; each failure starts over with a new producer."""
        backoff = Backoff(first_s=0.2, limit_s=5.0)
        while True:
            try:
                await self._session(backoff)
            except Exception as error:
                if not is_infrastructure(error):
                    log.critical("outbox.relay.ended", exc_info=error)
                    raise
                log.warning("outbox.relay.restarted", error=type(error).__name__)
            if self._stopping:
                return
            await backoff.wait()

    async def _session(self, backoff: Backoff) -> None:
        producer = open_producer(self._brokers)
        try:
            await producer.start()
            async with self._pool.acquire() as conn:
                schema = await conn.fetchval("SELECT current_schema()")
                await conn.add_listener(f"outbox_{schema}", self._wake)
                try:
                    await self._pump(producer, backoff)
                finally:
                    with suppress(*INFRASTRUCTURE, asyncpg.InterfaceError):
                        await conn.remove_listener(f"outbox_{schema}", self._wake)
        finally:
            with suppress(*INFRASTRUCTURE):
                async with asyncio.timeout(5):
                    await producer.stop()

    def _wake(self, *_: object) -> None:
        self._kick.set()

    async def _pump(self, producer: AIOKafkaProducer, backoff: Backoff) -> None:
        while True:
            self._kick.clear()
            moved = await self.drain(producer)
            backoff.reset()
            if moved:
                continue
            if self._stopping:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._kick.wait()

    async def drain(self, producer: AIOKafkaProducer) -> int:
        """Send one batch of each shard that no one else holds; return the number of events."""
        async with self._pool.acquire() as conn:
            pending = await conn.fetch(
                """
                SELECT shard, count(*) AS depth,
                       extract(epoch FROM clock_timestamp() - min(created_at)) AS age_s
                  FROM outbox
                 GROUP BY shard
                """
            )
            self._depth = sum(row["depth"] for row in pending)
            self._age_s = max((float(row["age_s"]) for row in pending), default=0.0)
            moved = 0
            for row in pending:
                moved += await self._drain_shard(conn, producer, row["shard"])
        return moved

    async def _drain_shard(
        self, conn: Connection, producer: AIOKafkaProducer, shard: int
    ) -> int:
        async with conn.transaction():
            ours: bool = await conn.fetchval(
                """
                SELECT pg_try_advisory_xact_lock(
                           hashtext('outbox.relay.' || current_schema()), $1)
                """,
                shard,
            )
            if not ours:
                return 0
            rows = await conn.fetch(
                """
                SELECT seq, topic, key, header_names, header_values, value, partition
                  FROM outbox
                 WHERE shard = $1
                 ORDER BY seq
                 LIMIT $2
                """,
                shard,
                self._batch,
            )
            await self._send(producer, rows)
            await conn.execute(
                "DELETE FROM outbox WHERE shard = $1 AND seq = ANY($2::bigint[])",
                shard,
                [row["seq"] for row in rows],
            )
        self._sent.add(len(rows))
        return len(rows)

    async def _send(self, producer: AIOKafkaProducer, rows: Sequence[asyncpg.Record]) -> None:
        async with asyncio.timeout(_SEND_S):
            sent = [
                await producer.send(
                    row["topic"],
                    row["value"],
                    key=row["key"],
                    partition=await _present(producer, row["topic"], row["partition"]),
                    headers=[
                        (name.decode(), value)
                        for name, value in zip(
                            row["header_names"], row["header_values"], strict=True
                        )
                    ],
                )
                for row in rows
            ]
            await asyncio.gather(*sent)

    def _observe_depth(self, _options: CallbackOptions) -> list[Observation]:
        return [Observation(self._depth)]

    def _observe_age(self, _options: CallbackOptions) -> list[Observation]:
        return [Observation(self._age_s)]


async def _present(producer: AIOKafkaProducer, topic: str, partition: int | None) -> int | None:
    """Return the partition, or None for one that a topic made anew does not have."""
    if partition is None or partition not in await producer.partitions_for(topic):
        return None
    return partition
