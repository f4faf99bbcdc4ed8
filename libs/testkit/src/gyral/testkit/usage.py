"""What a process takes of the machine, memory and processor time, as Linux tells it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_TIMES = slice(11, 15)
"""utime, stime and those of children that ended, counted from the state on; proc(5)."""


def memory_bytes(pid: int, name: str = "VmRSS") -> int:
    """Return a figure of a process's memory: what is resident, or `VmHWM`, its peak.

    Raises:
        LookupError: the kernel tells no figure of this name.
    """
    for row in Path(f"/proc/{pid}/status").read_text().splitlines():
        if row.startswith(name + ":"):
            return int(row.split()[1]) << 10
    raise LookupError(f"{name}: expected a figure of process {pid}; found none")


def cpu_s(pid: int) -> float:
    """Return the processor seconds of a process and of all it started, ended or not."""
    return sum(_ticks(one) for one in _family(pid)) / _TICKS_PER_S


def _family(pid: int) -> Iterator[int]:
    yield pid
    # A process may end while it is looked at; its time is then its parent's.
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in sorted(Path(f"/proc/{pid}/task").iterdir()):
            for child in (task / "children").read_text().split():
                yield from _family(int(child))


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, fields[_TIMES]))
