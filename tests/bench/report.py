"""What the benchmarks found, as their last line says it and the page of scale reads it."""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from gyral.testkit.openapi import ROOT

OUT = ROOT / "out" / "bench"


class Figures(BaseModel):
    """What every report has; unknown figures are refused, so none is told and never read."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(Figures):
    """What was measured on."""

    cores: int
    processor: str
    memory_gb: int
    python: str


class Report(Figures):
    """What a benchmark prints as its last line."""

    benchmark: str
    date: str
    machine: Machine


class Seconds(Figures):
    """How long something took."""

    p50: float
    p99: float


class Point(Figures):
    """A slab of rows that was added to a table."""

    rows: int
    """In the table, the slab included."""
    rows_per_s: float
    core_us_per_row: Mapping[str, float]
    """Microseconds of a core, by whose they are."""


class Series(Figures):
    """A table that grew."""

    partitions: int
    processes: int
    remember_h: float
    """0: rows are remembered for as long as their event time says."""
    points: Sequence[Point]


class Memory(Figures):
    """What one process held while rows went through it; MB are 10^6 bytes."""

    process: str
    remember_h: float | None
    """None where nothing is remembered of rows."""
    rows: int
    warm_mb: float
    """After the first tenth of the rows."""
    end_mb: float
    peak_mb: float
    mb_per_million_rows: float
    """Slope of the line through all samples after the first tenth."""
    identities_end_mb: float
    """Of `end_mb`, what rows are told apart by; Postgres holds the same bytes."""
    rest_mb_per_million_rows: float
    """The slope without it."""
    late_mb_per_million_rows: float
    """The slope over the second half, when segments are forgotten as fast as rows come."""
    late_rest_mb_per_million_rows: float
    samples: Sequence[tuple[int, float, float]]
    """Rows, MB, MB of identities: a few of all."""


class LongReport(Report):
    """What `make bench-data-long` prints."""

    benchmark: Literal["bench-data-long"] = "bench-data-long"
    seconds: float
    rows: int
    """In the largest table."""
    window_rows: int
    rows_per_s: Mapping[str, Mapping[str, float]]
    """By partitions, then by rows in the table: one process."""
    cost_growth: float
    """Core time a row in the last fifth of the largest table, over that in its first fifth."""
    series: Sequence[Series]
    memory: Sequence[Memory]
    visible_s: Seconds
    """Answered 202 until in the largest table, at half of the maximum rate."""
    visible_rows_per_s: float


class DataReport(Report):
    """What `make bench-data` prints."""

    benchmark: Literal["bench-data"] = "bench-data"
    validation_rows_per_s: float
    validation_ratio: float
    ingest_rows_per_s: float
    ingest_ratio: float
    arrow_over_ndjson: float
    arrow_10k_over_ndjson: float
    visible_rows_per_s: float
    visible_s: Seconds


def machine() -> Machine:
    """Return what this machine is."""
    told = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in told if line.startswith("model name")]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        processor=names[0] if names else platform.machine(),
        memory_gb=round(pages / (1 << 30)),
        python=platform.python_version(),
    )


def today() -> str:
    """Return the date, UTC."""
    return datetime.now(UTC).date().isoformat()


def publish(report: Report, folder: Path = OUT) -> None:
    """Keep a report where the page's command finds it, and print it as one line."""
    folder.mkdir(parents=True, exist_ok=True)
    text = report.model_dump_json()
    (folder / f"{report.benchmark}.json").write_text(text + "\n", encoding="utf-8")
    print(text)  # noqa: T201 - the result
