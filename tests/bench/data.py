"""`make bench-data`: the data plane's figures, each ratio within this one run."""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gyral.testkit.backends import Backends, fresh_bucket, fresh_schema, start_backends
from tests.bench import ingest, validate, visible
from tests.bench.feed import STREAM
from tests.bench.ingest import Ingested
from tests.bench.report import DataReport, Seconds, machine, publish, today
from tests.bench.validate import Rates
from tests.bench.visible import Visible

_VISIBLE_S = 30.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run found."""

    validation: Rates
    ingestion: Ingested
    visible: Visible

    def report(self) -> DataReport:
        """Return the figures as the one JSON object."""
        return DataReport(
            date=today(),
            machine=machine(),
            validation_rows_per_s=round(self.validation.validation),
            validation_ratio=round(self.validation.ratio, 3),
            ingest_rows_per_s=round(self.ingestion.ndjson_rows_per_s),
            ingest_ratio=round(self.ingestion.ingest_ratio, 2),
            arrow_over_ndjson=round(self.ingestion.arrow_over_ndjson, 2),
            arrow_10k_over_ndjson=round(self.ingestion.arrow_10k_over_ndjson, 2),
            visible_rows_per_s=round(self.visible.rows_per_s),
            visible_s=Seconds(p50=round(self.visible.p50, 2), p99=round(self.visible.p99, 2)),
        )

    def table(self) -> Table:
        """Return the figures for people."""
        table = Table("what", "rows/s", "against", "ratio", title="data plane")
        rates, taken = self.validation, self.ingestion
        for what, rate, against, ratio in (
            ("validation, rows of one record", rates.validation, rates.bare, rates.ratio),
            (
                "ingestion, NDJSON of 1,000 rows",
                taken.ndjson_rows_per_s,
                taken.bare_rows_per_s,
                taken.ingest_ratio,
            ),
            (
                "ingestion, Arrow of 1,000 rows",
                taken.arrow_rows_per_s,
                taken.ndjson_rows_per_s,
                taken.arrow_over_ndjson,
            ),
            (
                "ingestion, Arrow of 10,000 rows",
                taken.arrow_10k_rows_per_s,
                taken.ndjson_rows_per_s,
                taken.arrow_10k_over_ndjson,
            ),
        ):
            table.add_row(what, f"{rate:,.0f}", f"{against:,.0f}", f"{ratio:.2f}")
        seen = self.visible
        table.add_row(
            "answered 202 until in the lake",
            f"{seen.rows_per_s:,.0f}",
            "",
            f"p50 {seen.p50:.2f} s, p99 {seen.p99:.2f} s",
        )
        return table


async def measure(home: Path) -> Figures:
    """Start a stack of the benchmark's own and measure everything, one after the other."""
    backends = await asyncio.to_thread(start_backends, home)
    try:
        rates = await validate.run(backends, home)
        # Before ingestion is measured: that fills the topic with the same rows over and over.
        seen = await _visible(backends, home, rate=rates.validation / 2)
        return Figures(validation=rates, visible=seen, ingestion=await ingest.run(backends))
    finally:
        await asyncio.to_thread(backends.stack.down)


async def _visible(backends: Backends, home: Path, *, rate: float) -> Visible:
    """Run ingestion and validation and send rows at half of what validation can do."""
    async with fresh_schema(backends) as dsn, fresh_bucket(backends.s3()) as blobs:
        env = validate.settings(backends, dsn, blobs)
        async with (
            ingest.ingestion(backends, STREAM) as door,
            validate.running(env, home / "validation.log"),
        ):
            await validate.caught_up(backends, dsn)
            return await visible.run(
                dsn, door.url, ingest.SECRET, rate=rate, seconds=_VISIBLE_S
            )


def main() -> None:
    """Measure and print a table, then one line of JSON."""
    with tempfile.TemporaryDirectory(prefix="gyral-bench-") as folder:
        figures = asyncio.run(measure(Path(folder)))
    Console().print(figures.table())
    publish(figures.report())


if __name__ == "__main__":
    main()
