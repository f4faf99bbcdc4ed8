"""Rows and markers taken while Kafka is away, on a bounded file that outlives the process."""

from enum import IntEnum
from pathlib import Path

from gyral.kit.journal import Journal, JournalBrokenError, JournalFullError, Limits
from gyral.kit.segments import Entry, Position

_SEGMENT_BYTES = 16 << 20


class Kind(IntEnum):
    """What an entry is."""

    ROWS = 1
    MARKER = 2


class SpoolFullError(Exception):
    """No more can be kept until Kafka is back, or the disk refuses."""


class Spool:
    """A journal whose entries are on the disk, synced, before `append` returns."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        limits = Limits(
            max_bytes=max_bytes + 2 * _SEGMENT_BYTES, segment_bytes=_SEGMENT_BYTES, fsync=True
        )
        self._journal = Journal(folder, limits)
        self._max_bytes = max_bytes

    @property
    def pending_bytes(self) -> int:
        """Bytes that Kafka does not have yet."""
        return self._journal.pending_bytes

    async def open(self) -> None:
        """Take up what an earlier process left; raises as `Journal.open` does."""
        await self._journal.open()

    def close(self) -> None:
        """Let go of the files."""
        self._journal.close()

    def writable(self) -> str | None:
        """Answer None while the disk takes entries."""
        return self._journal.writable()

    async def append(self, kind: Kind, id_: str, payload: bytes) -> None:
        """Return once the entry would survive a power cut.

        Raises:
            SpoolFullError: it would be more than the limit, or the disk is full or failing.
        """
        if self.pending_bytes + len(payload) > self._max_bytes:
            raise SpoolFullError(f"the spool holds {self.pending_bytes} bytes")
        try:
            await self._journal.append(Entry(kind, id_, 0, payload))
        except (JournalFullError, JournalBrokenError) as error:
            raise SpoolFullError(str(error)) from error

    async def next(self) -> list[tuple[Entry, Position]]:
        """Return the oldest entries that Kafka does not have, each with the place behind it."""
        return await self._journal.read(self._journal.acked)

    def done(self, position: Position) -> None:
        """Remember that Kafka has everything before a place."""
        self._journal.ack(position)

    async def wait(self) -> None:
        """Return when something was appended since the last call."""
        await self._journal.wait()
