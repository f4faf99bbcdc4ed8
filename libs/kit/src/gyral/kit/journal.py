"""A bounded journal on the local disk: what was answered is on it before the answer leaves.

A `write` survives the death of the process, not of the machine; `fsync` survives both. One
process writes and reads, held alone by a lock that ends with it; the reader's place is kept in
the locked file, so a restart sends little twice.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from gyral.kit.gathering import Gathering
from gyral.kit.ownership import own
from gyral.kit.recent import Recent
from gyral.kit.segments import (
    DAMAGED,
    Entry,
    Position,
    cut_torn_end,
    frame,
    numbers,
    path_of,
    read_on,
    read_some,
    sync_folder,
)
from gyral.kit.syncing import Syncing
from gyral.kit.telemetry import get_log

_PLACE = Struct("<qq")
_READ_BYTES = 256 << 10
_RECENT_BYTES = 4 << 20
_PATIENCE_S = 15.0
log = get_log()


class JournalFullError(RuntimeError):
    """Kafka has been away for so long that no more can be remembered."""


class JournalBrokenError(RuntimeError):
    """The disk refuses to remember."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may lie on the disk, and how."""

    max_bytes: int
    segment_bytes: int
    fsync: bool


class Journal:
    """Append-only segments in a folder of this process's own."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._appended = asyncio.Event()
        self._sizes: dict[int, int] = {}
        self._bytes = 0
        self._segment = 0
        self._file = -1
        self._broken: str | None = None
        self._acked = Position(0, 0)
        self._place = -1
        self._syncing = Syncing()
        self._gathering = Gathering(self._append_all)
        self._recent = Recent(_RECENT_BYTES, self._acked)

    @property
    def acked(self) -> Position:
        """Up to where Kafka has everything."""
        return self._acked

    @property
    def pending_bytes(self) -> int:
        """Bytes not yet acknowledged."""
        return self._bytes - min(self._acked.offset, self._sizes.get(self._acked.segment, 0))

    async def open(self, *, patience_s: float = _PATIENCE_S) -> None:
        """Take up what an earlier process left, and begin a segment of this one's own.

        Args:
            patience_s: how long a process that is just stopping is waited for.

        Raises:
            UnstartableError: another process has the folder.
            OSError: the folder is not writable.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._place = await own(self._folder / "acked", patience_s=patience_s)
        for number in numbers(self._folder):
            self._sizes[number] = cut_torn_end(path_of(self._folder, number))
        self._bytes = sum(self._sizes.values())
        self._acked = self._read_place()
        self._keep_place()  # takes its room now: on a full disk it is only written over
        self._begin_segment(max([*self._sizes, self._acked.segment]) + 1)
        self._recent = Recent(_RECENT_BYTES, Position(self._segment, 0))
        self._trim()

    def close(self) -> None:
        """Let go of the files, and of the folder last."""
        self._gathering.flush()
        self._syncing.close()
        for descriptor in (self._file, self._place):
            with suppress(OSError):
                os.close(descriptor)
        self._file = self._place = -1

    def writable(self) -> str | None:
        """Answer None while entries can be appended, having tried when they could not."""
        self._recover()
        return self._broken

    def check_room(self) -> None:
        """Refuse before any work is done for an answer that could not be remembered.

        Raises:
            JournalFullError: the limit is reached.
            JournalBrokenError: the disk refused the last entry, and still refuses.
        """
        self._recover()
        if self._broken is not None:
            raise JournalBrokenError(self._broken)
        if self._bytes >= self._limits.max_bytes:
            raise JournalFullError(
                f"expected Kafka to take the {self._bytes} bytes in hand; it is away"
            )

    async def append(self, entry: Entry) -> None:
        """Return once the entry is on the disk, as safely as `fsync` says.

        Raises:
            JournalFullError: the limit is reached.
            JournalBrokenError: the disk is full or failing.
        """
        self.check_room()
        await self._gathering.add(entry)
        if self._limits.fsync:
            await self._synced()

    async def read(self, start: Position) -> list[tuple[Entry, Position]]:
        """Return the next entries after a position, each with the position behind it."""
        recent = self._recent.after(start)
        if recent:
            return recent
        for number in sorted(self._sizes):
            if number < start.segment:
                continue
            offset = start.offset if number == start.segment else 0
            found = await self._read_segment(number, offset)
            if found:
                return found
        return []

    async def wait(self) -> None:
        """Return when something was appended since the last call."""
        await self._appended.wait()
        self._appended.clear()

    def ack(self, position: Position) -> None:
        """Remember that Kafka has everything before a position; forget whole segments of it."""
        self._acked = position
        self._recent.forget(position)
        try:
            self._keep_place()
        except OSError as error:  # a restart then sends again what consumers know already
            log.warning("journal.place_not_kept", reason=str(error))
        self._trim()

    async def _read_segment(self, number: int, offset: int) -> list[tuple[Entry, Position]]:
        size = self._sizes[number]
        if offset >= size:
            return []
        path = path_of(self._folder, number)
        found = read_some(path, offset, min(_READ_BYTES, size - offset))
        if not found:  # it is long, or damaged: either takes long
            lost, found = await asyncio.to_thread(read_on, path, offset, size)
            if lost and not self._leave(number):
                return []
            if lost and self._sizes[number] != size:  # more was written behind it meanwhile
                return await self._read_segment(number, offset)
            if lost:
                log.critical("journal.damaged", segment=number, offset=offset, lost_bytes=lost)
                self._keep_for_a_person(number)
            if not found:
                self._bytes -= size - offset
                self._sizes[number] = offset
        return [(entry, Position(number, end)) for entry, end in found]

    def _leave(self, number: int) -> bool:
        """Return True once nothing is written any more to a segment that is damaged."""
        if number == self._segment:
            self._broken = f"journal: expected segment {number} whole; found it damaged"
            self._recover()
        return number != self._segment

    def _keep_for_a_person(self, number: int) -> None:
        """Give the file a second name, which stays when all that can be sent was sent."""
        path = path_of(self._folder, number)
        with suppress(
            OSError
        ):  # what can be sent is sent all the same; it may be there already
            os.link(path, path.with_suffix(DAMAGED))

    def _append_all(self, entries: Sequence[Entry]) -> None:
        """Write entries with one call: it costs more than their bytes do."""
        self._recover()  # since their room was looked for, the file may have been given up
        if self._broken is not None:
            raise JournalBrokenError(self._broken)
        framed = [frame(entry) for entry in entries]
        data = framed[0] if len(framed) == 1 else b"".join(framed)
        if self._sizes[self._segment] + len(data) > self._limits.segment_bytes:
            self._roll()
        self._write(data)
        end = self._sizes[self._segment] - len(data)
        ends = [Position(self._segment, end := end + len(each)) for each in framed]
        self._recent.keep(zip(entries, ends, strict=True))
        self._appended.set()

    def _write(self, framed: bytes) -> None:
        size = self._sizes[self._segment]
        try:
            written = os.write(self._file, framed)
            why = "the disk is full"
        except OSError as error:
            written, why = -1, error.strerror or type(error).__name__
        if written != len(framed):
            self._undo(size)
            raise JournalBrokenError(f"journal: expected to write {len(framed)} bytes: {why}")
        self._sizes[self._segment] = size + len(framed)
        self._bytes += len(framed)

    def _undo(self, size: int) -> None:
        """Cut off what a failed write left; when even that fails nothing may follow it here."""
        try:
            os.ftruncate(self._file, size)
        except OSError as error:
            self._broken = f"journal: expected to cut a failed write off: {error.strerror}"

    def _recover(self) -> None:
        """Go on in another segment, if there is room for one, behind what cannot be cut off."""
        if self._broken is None or self._place == -1:
            return
        try:
            self._begin_segment(self._segment + 1)
        except OSError as error:
            self._broken = f"journal: expected to begin another file: {error.strerror}"
            return
        log.warning("journal.resumed", segment=self._segment, after=self._broken)
        self._broken = None

    def _roll(self) -> None:
        """Begin the next segment; until there is one this one stays open and is the last."""
        try:
            self._begin_segment(self._segment + 1)
        except OSError as error:
            raise JournalBrokenError(
                f"journal: expected to begin another file: {error.strerror}"
            ) from error

    def _begin_segment(self, number: int) -> None:
        path = path_of(self._folder, number)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        file = os.open(path, flags, 0o600)
        try:
            if self._limits.fsync:
                sync_folder(self._folder)
        except OSError:
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        before, self._file = self._file, file
        self._segment = number
        self._sizes[number] = 0
        if before == -1:
            return
        if self._limits.fsync:
            self._syncing.full(before)
        else:
            with suppress(OSError):
                os.close(before)

    async def _synced(self) -> None:
        try:
            await self._syncing.after_write(lambda: self._file)
        except OSError as error:
            self._broken = f"journal: expected to sync: {error}"
            raise JournalBrokenError(self._broken) from error

    def _trim(self) -> None:
        for number in [number for number in self._sizes if number != self._segment]:
            whole = number < self._acked.segment or (
                number == self._acked.segment and self._acked.offset >= self._sizes[number]
            )
            if whole or self._sizes[number] == 0:
                path_of(self._folder, number).unlink(missing_ok=True)
                self._bytes -= self._sizes.pop(number)

    def _keep_place(self) -> None:
        place = _PLACE.pack(self._acked.segment, self._acked.offset)
        os.pwrite(self._place, place, 0)

    def _read_place(self) -> Position:
        data = os.pread(self._place, _PLACE.size, 0)
        return Position(*_PLACE.unpack(data)) if len(data) == _PLACE.size else Position(0, 0)
