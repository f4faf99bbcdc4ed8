"""What a sink's handler gets: slices of partitions, and the transaction that counts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gyral.contracts.data import WatermarkAdvanced
from gyral.kit.cloudevents import Record
from gyral.kit.tx import Begin, Tx

T = TypeVar("T", bound=Tx)
MARKER = ("ce_type", WatermarkAdvanced.topic.name.encode())
"""Header of the records that make a sink flush at once."""


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of one topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive records of one partition, oldest first; never empty."""

    topic: str
    partition: int
    records: tuple[Record, ...]
    first_offset: int | None
    """The stored offset that the slice continues; None before the very first commit."""

    @property
    def next_offset(self) -> int:
        """The offset that is stored when the slice commits."""
        return self.records[-1].offset + 1

    @property
    def place(self) -> Partition:
        """Where the records lie."""
        return Partition(self.topic, self.partition)


@dataclass(slots=True)
class Batch(Generic[T]):
    """What a handler gets; nothing of it counts before `commit` has ended."""

    slices: tuple[Slice, ...]
    sink: str
    begin: Begin[T]
    committed: bool = field(default=False, init=False)

    def __len__(self) -> int:
        """Count the records."""
        return sum(len(part.records) for part in self.slices)

    @asynccontextmanager
    async def commit(self) -> AsyncIterator[T]:
        """Open the transaction that moves the offsets.

        The output is written in it, or before it when writing it twice does no harm.

        Raises:
            Fenced: another process has these partitions; let it pass, the kit starts over.
        """
        async with self.begin() as tx:
            await tx.advance(
                self.sink,
                [
                    (part.topic, part.partition, part.first_offset, part.next_offset)
                    for part in self.slices
                ],
            )
            yield tx
        self.committed = True


def is_marker(record: Record) -> bool:
    """Tell a marker of event time from data, by its header alone."""
    return MARKER in record.headers
