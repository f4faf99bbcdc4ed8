"""Knows a process by its id and its start time, so that a reused id is never signalled."""

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_MARK = "GYRAL_PROCESS"


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, and no later one that happens to get the same id."""

    pid: int
    started: str

    def __str__(self) -> str:
        return f"{self.pid} {self.started}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the identity that was written as text."""
        pid, _, began = text.strip().partition(" ")
        return cls(int(pid), began)

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return started(self.pid) == self.started

    def signal(self, number: signal.Signals) -> None:
        """Send the signal to the process, if it still runs."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill_group(self) -> None:
        """Kill the process and all that it started in its own session."""
        if self.alive():
            kill_group(self.pid)


def kill_group(pid: int) -> None:
    """Kill every process of the group that `pid` leads; nothing happens when it is empty."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def identify(pid: int) -> Identity:
    """Return the identity of a running process; a dead one is never alive."""
    return Identity(pid, started(pid) or "never")


def started(pid: int) -> str | None:
    """Return when the process started, as the system counts; None when it has ended."""
    if not Path("/proc/self/stat").exists():
        answer = subprocess.run(
            ["/bin/ps", "-o", "lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return answer.stdout.strip() or None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return None if fields[0] in {"Z", "X"} else fields[19]


def mark(instance_id: str, name: str) -> dict[str, str]:
    """Return the variable by which a process of this instance is found again."""
    return {_MARK: f"{instance_id}/{name}"}


def marked(instance_id: str) -> list[Identity]:
    """Return the instance's running processes, whoever started them; empty without /proc."""
    found: list[Identity] = []
    needle = f"{_MARK}={instance_id}/".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            variables = (folder / "environ").read_bytes().split(b"\0")
            if any(variable.startswith(needle) for variable in variables):
                found.append(identify(int(folder.name)))
    return found
