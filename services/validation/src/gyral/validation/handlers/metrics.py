"""What validation counts of blocks that were judged."""

from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry.metrics import Counter

from gyral.kit.telemetry import get_log, get_meter
from gyral.validation.domain.outcomes import Outcome
from gyral.validation.store.progress import Report

log = get_log()


@dataclass(frozen=True, slots=True)
class Metrics:
    """The instruments, by what they tell."""

    blocks: Counter
    """Blocks judged, by stream, expectation, severity and outcome."""
    late: Counter
    """Rows in the lake that came after their block was over, by stream."""

    def tell(self, reports: Sequence[Report]) -> None:
        """Count what was committed."""
        for report in reports:
            if report.late:
                self.late.add(report.late, {"stream": report.stream})
            for judged in report.judged:
                told = {
                    "stream": report.stream,
                    "expectation": judged.watched.name,
                    "severity": judged.watched.severity.value,
                    "outcome": judged.outcome.value,
                }
                self.blocks.add(1, told)
                if judged.outcome is Outcome.FAILED:
                    log.warning("block.failed", start_us=judged.start_us, **told)


def metrics() -> Metrics:
    """Make the instruments."""
    meter = get_meter()
    return Metrics(
        blocks=meter.create_counter(
            "gyral_expectation_blocks", description="Blocks of event time judged"
        ),
        late=meter.create_counter(
            "gyral_expectation_late_rows", description="Rows that came after their block"
        ),
    )
