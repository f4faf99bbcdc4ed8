"""What is measured of the lake: commits, tables' files, compactions; and of what is refused."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import perf_counter

from opentelemetry.metrics import CallbackOptions, Observation

from gyral.kit.telemetry import get_meter
from gyral.validation.domain.accounting import Quarantined


class Measures:
    """The instruments of the tables one process writes."""

    def __init__(self) -> None:
        meter = get_meter()
        self._commits = meter.create_histogram(
            "gyral_lake_commit_seconds", "s", "Time an append to a table took"
        )
        self._compactions = meter.create_counter(
            "gyral_lake_compactions", description="Times small files were merged, by outcome"
        )
        self._vacuumed_files = meter.create_counter(
            "gyral_lake_vacuumed_files", description="Files removed that no version needed"
        )
        self._vacuumed_bytes = meter.create_counter(
            "gyral_lake_vacuumed_bytes", "By", "Bytes of those files"
        )
        self._shapes: dict[str, tuple[int, int, int]] = {}
        for at, (name, said) in enumerate(
            (
                ("gyral_lake_files", "Files of a table, as its last upkeep left it"),
                ("gyral_lake_bytes", "Bytes of those files"),
                ("gyral_lake_rows", "Rows in them"),
            )
        ):
            meter.create_observable_gauge(name, [partial(self._observed, at)], description=said)

    @contextmanager
    def commit(self, table: str) -> Iterator[None]:
        """Measure an append that succeeds."""
        began = perf_counter()
        yield
        self._commits.record(perf_counter() - began, {"table": table})

    def compacted(self, table: str, outcome: str) -> None:
        """Count a compaction that merged, was not needed, or failed."""
        self._compactions.add(1, {"table": table, "outcome": outcome})

    def vacuumed(self, table: str, *, files: int, size_bytes: int) -> None:
        """Count files that were removed."""
        self._vacuumed_files.add(files, {"table": table})
        self._vacuumed_bytes.add(size_bytes, {"table": table})

    def shape(self, table: str, *, files: int, size_bytes: int, rows: int) -> None:
        """Take note of what a table consists of."""
        self._shapes[table] = (files, size_bytes, rows)

    def _observed(self, at: int, _options: CallbackOptions) -> Sequence[Observation]:
        return [Observation(shape[at], {"table": name}) for name, shape in self._shapes.items()]


class Outcomes:
    """Counts where rows went, once that is settled."""

    def __init__(self) -> None:
        meter = get_meter()
        self._rows = meter.create_counter(
            "gyral_validation_rows", description="Rows accepted or here before, by stream"
        )
        self._rejects = meter.create_counter(
            "gyral_validation_rejects", description="Rows refused, by reason"
        )

    def accepted(self, stream: str, rows: int, duplicates: int) -> None:
        """Count a declared stream's rows of one batch."""
        self._rows.add(rows, {"stream": stream, "outcome": "accepted"})
        self._rows.add(duplicates, {"stream": stream, "outcome": "duplicate"})

    def refused(self, rows: Sequence[Quarantined]) -> None:
        """Count refused rows; the streams they name may be anything."""
        reasons = Counter(row.violation.reason.value for row in rows)
        for reason, count in reasons.items():
            self._rejects.add(count, {"reason": reason})
