"""Figures and picture of docs/serving-figures.md, from what its benchmarks found."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from gyral.client.report.axis import Axis
from gyral.client.report.chart import Chart
from gyral.testkit.picture import Line, composed
from tests.bench.figures import as_table, measured_on, not_measured
from tests.bench.page import DOCS, blocks_written
from tests.bench.report import OUT, Report
from tests.bench.serving.report import (
    PEERS,
    Cell,
    Cells,
    DensityReport,
    LongServingReport,
    Ratios,
    ServingReport,
)

PAGE = "serving-figures.md"
PICTURE = "serving.svg"
_COLOURS = {"ceiling": "grey", "gateway": "blue", "kserve": "amber"}


@dataclass(frozen=True, slots=True)
class Found:
    """The reports there are."""

    serving: ServingReport | None
    density: DensityReport | None
    long: LongServingReport | None


R = TypeVar("R", bound=Report)
Block = Callable[[Found], str]


def servers_of(told: ServingReport) -> Mapping[str, Cells]:
    """Return the cells of every server that was measured."""
    names = ("ceiling", "gateway", "gateway_binary", "gateway_grpc", *PEERS)
    found = {name: getattr(told, name) for name in names}
    return {name: cells for name, cells in found.items() if cells is not None}


def _servers(found: Found) -> str:
    told = found.serving
    if told is None:
        return not_measured("bench-serving")
    rows = [
        (name, *(_cell(cell) for cell in (cells.c1, cells.c16, cells.c64)))
        for name, cells in servers_of(told).items()
    ]
    titles = ("server", "1 connection", "16 connections", "64 connections")
    return (
        f"{measured_on(told.date, told.machine)} Others had at most {told.foreign_cpu:.0%} of"
        " the machine in any window. Requests/s, p50 and p99 in ms:\n\n"
        f"{as_table(titles, rows)}\n\n![Requests a second and p99, by connections]"
        f"(images/{PICTURE})"
    )


def _ratios(found: Found) -> str:
    told = found.serving
    if told is None:
        return not_measured("bench-serving")
    rates, late = _three(told.over_kserve), _three(told.p99_over_kserve)
    rows = [
        ("requests/s over KServe", *rates),
        ("wanted", "1.2", "4.5", "5"),
        ("p99 over KServe", *late),
        ("wanted", "", "", "0.25"),
    ]
    many = told.rows
    return (
        f"{as_table(('', '1', '16', '64'), rows)}\n\nRequests of {many.rows} rows, over 16"
        f" connections: {many.gateway_rows_per_s:,.0f} rows/s, {many.over_kserve:.2f} times"
        f" KServe's {many.kserve_rows_per_s:,.0f} (wanted: 2)."
    )


def _overload(found: Found) -> str:
    told = found.serving
    if told is None or told.overload is None:
        return not_measured("bench-serving")
    flood = told.overload
    return as_table(
        ("figure", "measured", "wanted"),
        [
            ("requests/s that it can answer", f"{flood.capacity_rps:,.0f}", ""),
            ("requests/s that came", f"{flood.offered_rps:,.0f}", ""),
            ("answered with 200, of what it can", f"{flood.goodput_share:.0%}", "90 %"),
            ("p99 of these, over that without overload", f"{flood.p99_ratio:.2f}", "2"),
            (
                "of the others: 429 with Retry-After",
                f"{flood.refused_share:.2%}",
                "100 %",
            ),
            ("until all was as before", f"{flood.recovery_s:.1f} s", "10 s"),
        ],
    )


def _half_open(found: Found) -> str:
    told = found.serving
    if told is None or told.half_open is None:
        return not_measured("bench-serving")
    beside = told.half_open
    return as_table(
        ("figure", "measured", "wanted"),
        [
            ("p99 of others without them, ms", f"{beside.calm_p99_ms:.2f}", ""),
            ("with them", f"{beside.p99_ms:.2f}", ""),
            ("ratio", f"{beside.p99_ratio:.2f}", "2"),
            ("all closed by the gateway after", f"{beside.closed_s:.1f} s", ""),
        ],
    )


def _stages(found: Found) -> str:
    told = found.serving
    if told is None:
        return not_measured("bench-serving")
    rows = [(name, f"{us:.1f}") for name, us in told.stages_us.items()]
    rows.append(("together", f"{sum(told.stages_us.values()):.1f}"))
    spent = ", ".join(f"{name} {us:.0f}" for name, us in told.core_us.items())
    return (
        f"{as_table(('stage', 'us'), rows)}\n\nWhole processes, us of a core a request at 64"
        f" connections: {spent}. The ceiling takes {1e6 / told.ceiling.c64.rps:.0f} us from"
        " one answer to the next."
    )


def _density(found: Found) -> str:
    told = found.density
    if told is None:
        return not_measured("bench-density")
    rows = [
        (
            f"{one.budget_mb:,.0f}",
            f"{one.end_mb:,.0f}",
            f"{one.ready_s:.1f}",
            f"{one.same_ms['p50']:.2f} / {one.same_ms['p99']:.2f}",
            f"{one.turns_ms['p50']:.2f} / {one.turns_ms['p99']:.2f}",
        )
        for one in told.runs
    ]
    titles = (
        "budget, MB",
        "held, MB",
        "ready after, s",
        "one model again and again, p50 / p99 ms",
        "each in turn",
    )
    return (
        f"{measured_on(told.date, told.machine)} {told.models} models of {told.model_bytes:,}"
        f" bytes in one runtime, beyond the {told.empty_mb:,.0f} MB of an empty one:\n\n"
        f"{as_table(titles, rows)}"
    )


def _cold_start(found: Found) -> str:
    told = found.density.cold_start if found.density else None
    if told is None:
        return not_measured("bench-density")
    return as_table(
        ("figure", "measured"),
        [
            ("first answer after a sleep, p50 of " + str(told.starts), f"{told.p50_s:.2f} s"),
            ("the slowest of them", f"{told.longest_s:.2f} s"),
            ("the same request while a runtime is there", f"{told.warm_p50_ms:.2f} ms"),
        ],
    )


def _memory(found: Found) -> str:
    told = found.long
    if told is None:
        return not_measured("bench-serving-long")
    rows = [
        (
            each.process,
            f"{each.warm_mb:,.1f}",
            f"{each.end_mb:,.1f}",
            f"{each.peak_mb:,.1f}",
            f"{each.mb_per_million_requests:+.2f}",
        )
        for each in told.memory
    ]
    titles = (
        "process",
        "MB after a tenth",
        "MB at the end",
        "at most",
        "MB a million requests, by a line through all after the tenth",
    )
    return (
        f"{measured_on(told.date, told.machine)} {told.requests:,} requests in"
        f" {told.seconds:,.0f} s:\n\n{as_table(titles, rows)}"
    )


BLOCKS: Mapping[str, Block] = {
    "servers": _servers,
    "ratios": _ratios,
    "overload": _overload,
    "half_open": _half_open,
    "stages": _stages,
    "density": _density,
    "memory": _memory,
    "cold_start": _cold_start,
}


def read(folder: Path) -> Found:
    """Return the reports kept in a folder; raises ValidationError when one has another form."""
    return Found(
        _read(folder / "bench-serving.json", ServingReport),
        _read(folder / "bench-density.json", DensityReport),
        _read(folder / "bench-serving-long.json", LongServingReport),
    )


def _read(path: Path, form: type[R]) -> R | None:
    return form.model_validate_json(path.read_text()) if path.exists() else None


def rendered(page: str, found: Found) -> str:
    """Return the page with each block of figures written anew."""
    return blocks_written(page, lambda name: BLOCKS[name](found))


def picture(told: ServingReport) -> str:
    """Return requests a second, and p99, by connections."""
    shown = {name: cells for name, cells in servers_of(told).items() if name in _COLOURS}
    key = [Line(name, name, _COLOURS[name]) for name in shown]
    axis = Axis.evenly(("1", "16", "64"))

    def chart(title: str, value: Callable[[Cell], float]) -> Chart:
        lines = {
            name: [value(cells.c1), value(cells.c16), value(cells.c64)]
            for name, cells in shown.items()
        }
        return Chart(f"{title}, by connections", axis, lines, floor=0.0)

    return composed(
        "One row a request, as JSON",
        f"{told.date}, {told.machine.cores} cores; ceiling: raw ASGI around the same model",
        key=key,
        charts=[
            chart("Thousand requests/s", lambda cell: cell.rps / 1000),
            chart("p99, ms", lambda cell: cell.p99_ms),
        ],
    )


def keep(out: Path, docs: Path) -> None:
    """Take over the newest report into docs/results, and write the page and its picture."""
    fresh = read(out)
    results = docs / "results"
    for report in (fresh.serving, fresh.density, fresh.long):
        if report is not None:
            results.mkdir(exist_ok=True)
            text = report.model_dump_json(indent=1) + "\n"
            (results / f"{report.benchmark}.json").write_text(text, encoding="utf-8")
    found = read(results)
    if found.serving is not None:
        drawn = picture(found.serving)
        (docs / "images" / PICTURE).write_text(drawn, encoding="utf-8")
    page = docs / PAGE
    page.write_text(rendered(page.read_text(encoding="utf-8"), found), encoding="utf-8")


def _cell(cell: Cell) -> str:
    return f"{cell.rps:,.0f} / {cell.p50_ms:.2f} / {cell.p99_ms:.2f}"


def _three(ratios: Ratios) -> tuple[str, str, str]:
    return f"{ratios.c1:.2f}", f"{ratios.c16:.2f}", f"{ratios.c64:.2f}"


def main() -> int:
    """Keep what the benchmark last found on this machine."""
    try:
        keep(OUT, DOCS)
    except ValidationError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
