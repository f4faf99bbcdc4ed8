"""Windows of load, taken in turns: what else the machine does then hits every server alike."""

import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gyral.testkit.backends import Backends
from gyral.testkit.usage import cpu_s
from tests.bench.serving import load, rpc
from tests.bench.serving.load import Target, Window
from tests.bench.serving.report import CONNECTIONS, Cell, Cells

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_BUSY = (1, 2, 3, 6, 7, 8)
"""user, nice, system, irq, softirq and steal of the first line; proc(5)."""
_WARM_UP_CONNECTIONS = 16


class Check(Protocol):
    """Asks once and compares the answer."""

    def __call__(self, target: Target) -> None: ...


class Generate(Protocol):
    """Asks for a while over so many connections; its files go into the folder."""

    def __call__(
        self, target: Target, folder: Path, *, connections: int, seconds: float
    ) -> Window: ...


@dataclass(frozen=True, slots=True)
class Generator:
    """How a server is asked."""

    check: Check
    load: Generate


HTTP = Generator(load.check, load.load)
GRPC = Generator(rpc.check, rpc.load)


@dataclass(frozen=True, slots=True)
class Server:
    """Something to ask, and the processes whose core time is told of."""

    name: str
    target: Target
    pids: Mapping[str, int] = field(default_factory=dict)
    generator: Generator = HTTP


@dataclass(frozen=True, slots=True)
class Timed:
    """A window, and what the machine did meanwhile."""

    window: Window
    foreign: float
    """Share of the machine that processes had which are no part of the benchmark."""
    core_us: Mapping[str, float]
    """Core time a request, by process."""


@dataclass(frozen=True, slots=True)
class Bench:
    """How long windows are, and how many of a cell."""

    backends: Backends
    folder: Path
    """Where generators keep what they need."""
    seconds: float
    rounds: int
    foreign: list[float] = field(default_factory=list)
    """Of every window so far."""
    asked: Counter[str] = field(default_factory=Counter)
    """Requests so far, by server."""

    def warm(self, servers: Sequence[Server]) -> None:
        """Check every answer, then ask for a while without looking."""
        for server in servers:
            server.generator.check(server.target)
            self._load(server, _WARM_UP_CONNECTIONS, max(self.seconds / 2, 1))

    def in_turns(self, servers: Sequence[Server], connections: int) -> Mapping[str, Timed]:
        """Return each server's middle window of several, by its rate."""
        taken: dict[str, list[Timed]] = {server.name: [] for server in servers}
        for _ in range(self.rounds):
            for server in servers:
                taken[server.name].append(self._window(server, connections))
        return {name: _middle(windows) for name, windows in taken.items()}

    def every(self, servers: Sequence[Server]) -> Mapping[int, Mapping[str, Timed]]:
        """Return the middle windows of all servers, by connections."""
        return {count: self.in_turns(servers, count) for count in CONNECTIONS}

    def _window(self, server: Server, connections: int) -> Timed:
        began_s, machine_s, ours_s = time.monotonic(), _machine_s(), self._ours_s()
        before = {name: cpu_s(pid) for name, pid in server.pids.items()}
        window = self._load(server, connections, self.seconds)
        spent = {name: cpu_s(pid) - before[name] for name, pid in server.pids.items()}
        others_s = _machine_s() - machine_s - (self._ours_s() - ours_s)
        possible_s = (time.monotonic() - began_s) * (os.cpu_count() or 1)
        foreign = max(0.0, others_s) / possible_s
        self.foreign.append(foreign)
        sys.stderr.write(
            f"{server.name}, {connections} connections: {window.rps:,.0f}/s,"
            f" p99 {window.p99_us / 1000:.2f} ms, others {foreign:.0%}\n"
        )
        each = {name: used_s / window.requests * 1e6 for name, used_s in spent.items()}
        return Timed(window, foreign, each)

    def _load(self, server: Server, connections: int, seconds: float) -> Window:
        window = server.generator.load(
            server.target, self.folder, connections=connections, seconds=seconds
        )
        self.asked[server.name] += window.requests
        return window

    def _ours_s(self) -> float:
        """Return the core seconds of this process, of all it started and of the back ends."""
        supervisor = self.backends.stack.supervisor()
        return cpu_s(os.getpid()) + (cpu_s(supervisor.pid) if supervisor else 0.0)


def cells_of(windows: Mapping[int, Mapping[str, Timed]], name: str) -> Cells:
    """Return one server's cells."""
    by_name = {f"c{count}": cell_of(found[name].window) for count, found in windows.items()}
    return Cells(**by_name)


def cell_of(window: Window) -> Cell:
    """Return a window as it is told of."""
    return Cell(
        rps=round(window.rps),
        p50_ms=round(window.p50_us / 1000, 3),
        p99_ms=round(window.p99_us / 1000, 3),
    )


def _middle(windows: Sequence[Timed]) -> Timed:
    by_rate = sorted(windows, key=lambda timed: timed.window.rps)
    return by_rate[len(by_rate) // 2]


def _machine_s() -> float:
    """Return the core seconds of all processes and interrupts; idle and waiting are none."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return sum(int(fields[at]) for at in _BUSY) / _TICKS_PER_S
