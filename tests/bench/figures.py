"""The blocks of figures in docs/scale.md, each as Markdown."""

from collections.abc import Callable, Mapping, Sequence

from tests.bench.plots import process_of
from tests.bench.report import DataReport, LongReport, Machine, Series

_CORES = (2, 4, 8, 16, 32)
_PARTITIONS = (1, 2, 4, 8, 16)
_WHO = ("validation", "kafka", "postgres", "minio")
_CALLED = {"minio": "S3"}
Block = Callable[[DataReport | None, LongReport | None], str]


def _data(data: DataReport | None, _long: LongReport | None) -> str:
    if data is None:
        return not_measured("bench-data")
    table = as_table(
        ("figure", "measured", "wanted"),
        [
            ("validation, rows/s of one process", f"{data.validation_rows_per_s:,.0f}", ""),
            (
                "validation over a bare reader of the same topic",
                f"{data.validation_ratio:.2f}",
                "0.5",
            ),
            ("ingestion, rows/s, NDJSON of 1,000 rows", f"{data.ingest_rows_per_s:,.0f}", ""),
            ("ingestion over a bare application", f"{data.ingest_ratio:.2f}", "0.4"),
            ("Arrow over NDJSON, of 1,000 rows", f"{data.arrow_over_ndjson:.2f}", "3"),
            ("Arrow of 10,000 rows over NDJSON", f"{data.arrow_10k_over_ndjson:.2f}", ""),
            (
                f"202 to visible, p50 at {data.visible_rows_per_s:,.0f} rows/s",
                f"{data.visible_s.p50:.2f} s",
                "1 s",
            ),
            ("the same, p99", f"{data.visible_s.p99:.2f} s", "3 s"),
        ],
    )
    return f"{measured_on(data.date, data.machine)}\n\n{table}"


def _rates(_data: DataReport | None, long: LongReport | None) -> str:
    if long is None:
        return not_measured("bench-data-long")
    sizes = sorted({int(rows) for by_size in long.rows_per_s.values() for rows in by_size})
    rows = [
        (partitions, *(_rounded(by_size.get(str(size))) for size in sizes))
        for partitions, by_size in long.rows_per_s.items()
    ]
    titles = ("partitions", *(f"{size:,} rows" for size in sizes))
    return (
        f"{measured_on(long.date, long.machine)} The run took {long.seconds / 60:.0f} minutes."
        " Rows/s of one process, by the size that the table reached:\n\n"
        f"{as_table(titles, rows)}\n\n"
        f"A row of the last fifth of the largest table took {long.cost_growth:.2f} times the"
        " core time of one of the first fifth.\n\n"
        "![Rows/s and core time a row, as tables grow](images/scale.svg)\n\n"
        f"At {long.rows:,} rows, {long.visible_rows_per_s:,.0f} rows/s over HTTP were visible"
        f" {long.visible_s.p50:.2f} s (p50) and {long.visible_s.p99:.2f} s (p99) after their"
        " answer."
    )


def _memory(_data: DataReport | None, long: LongReport | None) -> str:
    if long is None:
        return not_measured("bench-data-long")
    rows = [
        (
            process_of(each),
            f"{each.rows:,}",
            f"{each.warm_mb:,.0f}",
            f"{each.end_mb:,.0f}",
            f"{each.peak_mb:,.0f}",
            f"{each.mb_per_million_rows:+.1f}",
            f"{each.late_mb_per_million_rows:+.1f}",
            f"{each.identities_end_mb:,.0f}",
            f"{each.rest_mb_per_million_rows:+.1f}",
            f"{each.late_rest_mb_per_million_rows:+.1f}",
        )
        for each in long.memory
    ]
    titles = (
        "process",
        "rows",
        "MB after 10 %",
        "MB at the end",
        "peak",
        "MB a million rows",
        "in the second half",
        "of the end, identities",
        "MB a million rows without",
        "in the second half",
    )
    return f"{as_table(titles, rows)}\n\n![MB resident, by rows](images/memory.svg)"


def _cluster(_data: DataReport | None, long: LongReport | None) -> str:
    if long is None:
        return not_measured("bench-data-long")
    costs = costs_of(long)
    total = sum(costs.values())
    single = _rate(_alone(long))
    spent = as_table(
        ("", *(_CALLED.get(who, who) for who in _WHO), "together"),
        [("core us a row", *(f"{costs[who]:.1f}" for who in _WHO), f"{total:.1f}")],
    )
    given = as_table(
        ("cores", *(_partitions(count) for count in _PARTITIONS)),
        [
            (
                str(cores),
                *(f"{expected(cores, count, single, total):,.0f}" for count in _PARTITIONS),
            )
            for cores in _CORES
        ],
    )
    held = "\n".join(
        f"- {_partitions(one.partitions)}, {one.processes} processes,"
        f" {long.machine.cores} cores: measured {_rate(one):,.0f} rows/s; computed"
        f" {expected(long.machine.cores, one.processes, single, total):,.0f}"
        for one in long.series
        if one.processes > 1
    )
    return (
        f"{spent}\n\nOne core gives {1e6 / costs['validation']:,.0f} rows/s of validation"
        f" alone, and {1e6 / total:,.0f} rows/s with its share of Kafka, Postgres and S3."
        " Computed from that, rows/s of a cluster with one process a partition:\n\n"
        f"{given}\n\nWhat was measured of more than one process, beside what the same rule"
        f" gives:\n\n{held}"
    )


BLOCKS: Mapping[str, Block] = {
    "data": _data,
    "rates": _rates,
    "memory": _memory,
    "cluster": _cluster,
}


def costs_of(long: LongReport) -> Mapping[str, float]:
    """Return microseconds of a core a row, by whose they are, over the largest table."""
    points = _alone(long).points
    return {who: sum(one.core_us_per_row[who] for one in points) / len(points) for who in _WHO}


def expected(cores: int, processes: int, single: float, core_us: float) -> float:
    """Return rows/s of so many processes on so many cores.

    Args:
        single: rows/s of one process.
        core_us: microseconds of a core that a row takes, Kafka and stores included.
    """
    return min(processes * single, cores * 1e6 / core_us)


def _alone(long: LongReport) -> Series:
    """Return the largest table's series."""
    return max(long.series, key=lambda one: len(one.points))


def _rate(one: Series) -> float:
    """Return rows/s over a whole table: its slabs are of equal size."""
    return len(one.points) / sum(1 / point.rows_per_s for point in one.points)


def _rounded(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,.0f}"


def _partitions(count: int) -> str:
    return f"{count} partition{'s' if count > 1 else ''}"


def measured_on(date: str, machine: Machine) -> str:
    """Return when and on what something was measured."""
    return (
        f"{date}, {machine.cores} cores ({machine.processor}), {machine.memory_gb} GB, Python"
        f" {machine.python}."
    )


def not_measured(target: str) -> str:
    """Return what stands where figures will."""
    return f"Not measured yet: `make {target}`, then `make scale`."


def as_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
