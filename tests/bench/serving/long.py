"""`make bench-serving-long`: what gateway and runtime hold over millions of requests."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from gyral.testkit.backends import start_backends
from gyral.testkit.usage import memory_bytes
from tests.bench.report import OUT, machine, publish, today
from tests.bench.serving.load import NoWrkError, Target, load, wrk
from tests.bench.serving.model import NAME, boosted_trees, served
from tests.bench.serving.report import Held, LongServingReport
from tests.bench.serving.system import System, serving

_CONNECTIONS = 64
_WINDOW_S = 10.0
_WARM_UP = 0.1
_MB = 1e6


def held(process: str, samples: Sequence[tuple[int, float]]) -> Held:
    """Return how one process's memory went along with the requests."""
    requests = np.array([count for count, _ in samples], dtype=np.float64)
    mb = np.array([each for _, each in samples])
    warm = requests >= _WARM_UP * requests[-1]
    slope = np.polyfit(requests[warm] / 1e6, mb[warm], 1)[0] if warm.sum() > 1 else 0.0
    return Held(
        process=process,
        warm_mb=round(float(mb[warm][0]), 1),
        end_mb=round(float(mb[-1]), 1),
        peak_mb=round(float(mb.max()), 1),
        mb_per_million_requests=round(float(slope), 3),
        samples=samples,
    )


def measure(home: Path, requests: int) -> LongServingReport:
    """Ask without end over 64 connections until so many were answered."""
    backends = start_backends(home / "stack")
    trees = served(boosted_trees())
    try:
        with serving(backends, {NAME: trees}, home) as system:
            began = time.monotonic()
            samples = _asked(system, system.target(NAME, trees, 1), home, requests)
            seconds = time.monotonic() - began
    finally:
        backends.stack.down()
    answered = samples["gateway"][-1][0]
    return LongServingReport(
        date=today(),
        machine=machine(),
        seconds=round(seconds),
        requests=answered,
        rps=round(answered / seconds),
        memory=[held(name, of_process) for name, of_process in samples.items()],
    )


def _asked(
    system: System, target: Target, home: Path, requests: int
) -> Mapping[str, Sequence[tuple[int, float]]]:
    pids = {name: pid for name, pid in system.pids.items() if name != "kafka"}
    samples: dict[str, list[tuple[int, float]]] = {name: [] for name in pids}
    answered = 0
    while answered < requests:
        window = load(target, home, connections=_CONNECTIONS, seconds=_WINDOW_S)
        answered += window.requests
        for name, pid in pids.items():
            samples[name].append((answered, round(memory_bytes(pid) / _MB, 2)))
        asyncio.run(system.forget_log())
    return samples


def table(told: LongServingReport) -> Table:
    """Return the figures for people."""
    shown = Table("process", "MB after 10 %", "MB at the end", "peak", "MB a million requests")
    for each in told.memory:
        figures = (each.warm_mb, each.end_mb, each.peak_mb)
        shown.add_row(
            each.process,
            *(f"{mb:.1f}" for mb in figures),
            f"{each.mb_per_million_requests:+.3f}",
        )
    return shown


def main() -> int:
    """Measure and print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.serving.long", description=__doc__
    )
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the report")
    chosen = parser.parse_args()
    try:
        wrk()
    except NoWrkError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="gyral-bench-") as folder:
        told = measure(Path(folder), chosen.requests)
    Console().print(table(told))
    publish(told, chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
