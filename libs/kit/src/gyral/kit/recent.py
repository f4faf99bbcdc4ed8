"""What was appended lately, in memory: a reader that keeps up need not read it back."""

from collections import deque
from collections.abc import Iterable

from gyral.kit.segments import Entry, Position

_READ_BYTES = 1 << 20


class Recent:
    """Entries not yet acknowledged, the position behind each, up to a limit of their payloads.

    Beyond it all of them are forgotten, and kept again from the next on: the reader then has
    files to read first, and comes to what is kept here if it catches up.
    """

    def __init__(self, max_bytes: int, begin: Position) -> None:
        """Make one for what will be appended behind a position."""
        self._max_bytes = max_bytes
        self._entries: deque[tuple[Entry, Position]] = deque()
        self._bytes = 0
        self._from = self._end = begin

    def keep(self, appended: Iterable[tuple[Entry, Position]]) -> None:
        """Take what was appended behind all before it."""
        if not self._entries:
            self._from = self._end
        for each in appended:
            self._entries.append(each)
            self._bytes += len(each[0].payload)
            self._end = each[1]
        if self._bytes > self._max_bytes:
            self._entries.clear()
            self._bytes = 0

    def after(self, start: Position) -> list[tuple[Entry, Position]]:
        """Return the next entries after a position; none when they are not here."""
        found: list[tuple[Entry, Position]] = []
        if start != self._from:
            return found
        size = 0
        for each in self._entries:
            found.append(each)
            size += len(each[0].payload)
            if size >= _READ_BYTES:
                break
        return found

    def forget(self, before: Position) -> None:
        """Let go of what was acknowledged."""
        while self._entries and self._entries[0][1] <= before:
            entry, self._from = self._entries.popleft()
            self._bytes -= len(entry.payload)
