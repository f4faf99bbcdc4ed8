"""`make bench-serving`: the gateway against its peers, everything on, in one run."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gyral.testkit.backends import Backends, start_backends
from tests.bench.report import OUT, machine, publish, today
from tests.bench.serving import half_open, overload, stages
from tests.bench.serving.load import NoWrkError, wrk
from tests.bench.serving.measure import GRPC, Bench, Server, Timed, cells_of
from tests.bench.serving.model import NAME, SAMPLE_ROWS, Served, boosted_trees, served
from tests.bench.serving.peers import CEILING, KSERVE, OTHERS, Peer, environment, running
from tests.bench.serving.report import Cells, Rows, ServingReport, over
from tests.bench.serving.rpc import NoH2loadError, h2load
from tests.bench.serving.system import System, serving

_ROWS_CONNECTIONS = 16
_WIDTH = 110
"""Of the table, wherever it is written to."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the windows told."""

    cells: Mapping[str, Cells]
    rows: Rows
    core_us: Mapping[str, float]
    logged: int


def measure(
    backends: Backends, home: Path, bench: Bench, peers: Sequence[Peer], *, overloaded: bool
) -> ServingReport:
    """Measure everything, one after the other."""
    began = time.monotonic()
    trees = served(boosted_trees())
    slow = served(overload.slow_model())
    with serving(backends, {NAME: trees, overload.NAME: slow}, home) as system:
        found = _against_kserve(system, trees, home, bench)
        cells = {**found.cells, **_alone(peers, trees, home, bench)}
        flood = overload.run(system, slow) if overloaded else None
        silent = half_open.run(system.target(NAME, trees, 1)) if overloaded else None
        profile = asyncio.run(
            stages.measured(system.target(NAME, trees, 1).body, home / "stages")
        )
    return ServingReport(
        date=today(),
        machine=machine(),
        seconds=round(time.monotonic() - began),
        gateway=cells["gateway"],
        gateway_binary=cells["gateway_binary"],
        gateway_grpc=cells["gateway_grpc"],
        kserve=cells["kserve"],
        mlserver=cells.get("mlserver"),
        litserve=cells.get("litserve"),
        mlflow=cells.get("mlflow"),
        bentoml=cells.get("bentoml"),
        ray=cells.get("ray"),
        ceiling=cells["ceiling"],
        over_kserve=over(cells["gateway"], cells["kserve"], "rps"),
        p99_over_kserve=over(cells["gateway"], cells["kserve"], "p99_ms"),
        rows=found.rows,
        overload=flood,
        half_open=silent,
        stages_us=profile,
        core_us=found.core_us,
        foreign_cpu=round(max(bench.foreign), 3),
        logged=found.logged,
    )


def _against_kserve(system: System, trees: Served, home: Path, bench: Bench) -> Found:
    """Measure the gateway, KServe and the ceiling in turns."""
    before = asyncio.run(system.logged())
    answered_before = asyncio.run(system.answered())
    with ExitStack() as stack:
        beside = [stack.enter_context(running(peer, trees, home)) for peer in (KSERVE, CEILING)]

        def servers(rows: int) -> list[Server]:
            ours = Server("gateway", system.target(NAME, trees, rows), system.pids)
            return [
                ours,
                *(
                    Server(
                        one.peer.name,
                        one.peer.target(one.port, trees, rows),
                        {one.peer.name: one.pid},
                    )
                    for one in beside
                ),
            ]

        binary = Server("gateway_binary", system.binary_target(NAME, trees, 1))
        grpc = Server("gateway_grpc", system.rpc_target(NAME, trees, 1), generator=GRPC)
        single = [*servers(1), binary, grpc]
        bench.warm(single)
        windows = bench.every(single)
        bench.warm(servers(SAMPLE_ROWS)[:2])
        many = bench.in_turns(servers(SAMPLE_ROWS)[:2], _ROWS_CONNECTIONS)
    answered = asyncio.run(system.answered()) - answered_before
    asked = sum(count for name, count in bench.asked.items() if name.startswith("gateway"))
    if answered < asked:
        raise RuntimeError(f"gateway: expected {asked} answered with success; found {answered}")
    asyncio.run(system.log_reached(before + answered))
    names = [server.name for server in single]
    return Found(
        cells={name: cells_of(windows, name) for name in names},
        rows=_rows(many),
        core_us={
            process: round(us, 1)
            for timed in windows[64].values()
            for process, us in timed.core_us.items()
        },
        logged=asyncio.run(system.logged()) - before,
    )


def _alone(
    peers: Sequence[Peer], trees: Served, home: Path, bench: Bench
) -> Mapping[str, Cells]:
    """Measure the other peers, one at a time: some keep the machine busy when nobody asks."""
    found = {}
    for peer in peers:
        with running(peer, trees, home) as one:
            server = Server(peer.name, peer.target(one.port, trees, 1))
            bench.warm([server])
            found[peer.name] = cells_of(bench.every([server]), peer.name)
    return found


def _rows(many: Mapping[str, Timed]) -> Rows:
    ours, theirs = (many[name].window.rps * SAMPLE_ROWS for name in ("gateway", "kserve"))
    return Rows(
        rows=SAMPLE_ROWS,
        gateway_rows_per_s=round(ours),
        kserve_rows_per_s=round(theirs),
        over_kserve=round(ours / theirs, 3),
    )


def table(told: ServingReport) -> Table:
    """Return the figures for people."""
    shown = Table("server", title="requests/s, p50 and p99 in ms, at 1, 16 and 64 connections")
    for column in ("1", "p50", "p99", "16", "p50", "p99", "64", "p50", "p99"):
        shown.add_column(column, justify="right")
    for name in (
        "ceiling",
        "gateway",
        "gateway_binary",
        "gateway_grpc",
        "kserve",
        *(peer.name for peer in OTHERS),
    ):
        cells: Cells | None = getattr(told, name)
        if cells is not None:
            shown.add_row(
                name,
                *(
                    text
                    for cell in (cells.c1, cells.c16, cells.c64)
                    for text in (f"{cell.rps:,.0f}", f"{cell.p50_ms:.2f}", f"{cell.p99_ms:.2f}")
                ),
            )
    return shown


def main() -> int:
    """Measure and print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving", description=__doc__)
    parser.add_argument("--peers", choices=["kserve", "all"], default="kserve")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a window")
    parser.add_argument("--rounds", type=int, default=3, help="windows of a cell")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the report")
    parser.add_argument(
        "--no-overload", action="store_true", help="leave out overload and half-open sockets"
    )
    chosen = parser.parse_args()
    try:
        wrk()
        h2load()
    except (NoWrkError, NoH2loadError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    peers = OTHERS if chosen.peers == "all" else ()
    for peer in (KSERVE, *peers):
        environment(peer)
    with tempfile.TemporaryDirectory(prefix="gyral-bench-") as folder:
        home = Path(folder)
        backends = start_backends(home / "stack")
        try:
            bench = Bench(backends, home, chosen.seconds, chosen.rounds)
            told = measure(backends, home, bench, peers, overloaded=not chosen.no_overload)
        finally:
            backends.stack.down()
    Console(width=_WIDTH).print(table(told))
    publish(told, chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
