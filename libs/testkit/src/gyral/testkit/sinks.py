"""A sink's store in memory: output and offsets under row locks, as Postgres keeps them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from gyral.kit.db import Connection
from gyral.kit.offsets import Fenced, Move
from gyral.kit.tx import Tx

Place: TypeAlias = tuple[str, str, int]
"""Sink, topic and partition."""


class SinkTx(Tx):
    """A transaction that can also write output."""

    async def write(self, rows: Sequence[str]) -> None:
        """Add rows to the output; they count once the transaction has committed."""
        await self.conn.executemany(
            "INSERT INTO output (value) VALUES ($1)", [(row,) for row in rows]
        )


class MemorySinkTx(SinkTx):
    """Holds the locks it takes and what it wrote until it ends."""

    def __init__(self, store: "MemorySink") -> None:
        super().__init__(cast(Connection, None), service="test")
        self.rows: list[str] = []
        self.offsets: dict[Place, int] = {}
        self.held: list[asyncio.Lock] = []
        self._store = store

    async def write(self, rows: Sequence[str]) -> None:
        """Keep rows for the commit."""
        self.rows += rows

    async def advance(self, sink: str, moves: Sequence[Move]) -> None:
        """Move a sink's offsets, each once whoever moves it now is done.

        Raises:
            Fenced: an offset is not what the caller believed.
        """
        for topic, partition, expected, upcoming in sorted(moves, key=lambda move: move[:2]):
            place = (sink, topic, partition)
            lock = self._store.locks.setdefault(place, asyncio.Lock())
            await lock.acquire()
            self.held.append(lock)
            if self._store.offsets.get(place) != expected:
                raise Fenced(f"{sink}: {topic}/{partition}: expected to continue at {expected}")
            self.offsets[place] = upcoming

    async def flush(self) -> None:
        """Do nothing: nothing is published."""


@dataclass(slots=True)
class MemorySink:
    """The whole database of one sink."""

    offsets: dict[Place, int] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)
    locks: dict[Place, asyncio.Lock] = field(default_factory=dict)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[MemorySinkTx]:
        """Open a transaction that commits unless the block raises."""
        tx = MemorySinkTx(self)
        try:
            yield tx
            self.output += tx.rows
            self.offsets |= tx.offsets
        finally:
            for lock in tx.held:
                lock.release()

    async def fetchval(self, _query: str, sink: str, topic: str, partition: int) -> int | None:
        """Answer what `offsets.stored` asks of a pool."""
        return self.offsets.get((sink, topic, partition))
