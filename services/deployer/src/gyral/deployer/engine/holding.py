"""Finds the process that holds a folder's lock, and no other that happens to get its id."""

import asyncio
import fcntl
import os
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

_LAYOUT = "qqihh" if sys.platform == "darwin" else "hhqqi4x"
"""The system's `struct flock`."""
_LOOK_S = 0.2


def holder(lock: Path) -> int | None:
    """Return the id of the process that holds a lock now, or None."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        asked = struct.pack(_LAYOUT, *_ordered(fcntl.F_WRLCK, 0))
        said = struct.unpack(_LAYOUT, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    finally:
        os.close(descriptor)
    pid, kind = (said[2], said[3]) if sys.platform == "darwin" else (said[4], said[0])
    return None if kind == fcntl.F_UNLCK else pid


def _ordered(kind: int, pid: int) -> tuple[int, ...]:
    """Return a question about the whole file in the system's order."""
    return (0, 0, pid, kind, 0) if sys.platform == "darwin" else (kind, 0, 0, 0, pid)


class Held:
    """A process that holds a lock: it is signalled only while it still does."""

    def __init__(self, lock: Path, pid: int, descriptor: int | None) -> None:
        self.pid = pid
        self._lock = lock
        self._descriptor = descriptor

    @classmethod
    def of(cls, lock: Path) -> Self | None:
        """Return the process that holds a lock, or None."""
        pid = holder(lock)
        if pid is None:
            return None
        descriptor: int | None = None
        if sys.platform == "linux":
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                return None
        held = cls(lock, pid, descriptor)
        if holder(lock) != pid:  # it ended before it was taken hold of
            held.close()
            return None
        return held

    def close(self) -> None:
        """Let go of the process, which goes on."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        with suppress(ProcessLookupError):
            if sys.platform == "linux" and self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, number)
            elif holder(self._lock) == self.pid:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, with all that it started."""
        if holder(self._lock) == self.pid:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def ended(self) -> None:
        """Return once the process has ended."""
        if self._descriptor is None:
            while holder(self._lock) == self.pid:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(_LOOK_S)
            return
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._descriptor, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(self._descriptor)
        _reap(self.pid)


def _reap(pid: int) -> None:
    """Take note of an end: orphans are this process's own where it is the first of all."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
