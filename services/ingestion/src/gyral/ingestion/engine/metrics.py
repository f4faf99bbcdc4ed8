"""What ingestion counts and times."""

from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Observation

from gyral.kit.telemetry import get_meter


@dataclass(frozen=True, slots=True)
class Metrics:
    """The instruments, by what they tell."""

    rows: Counter
    """Rows answered 202, by stream and form."""
    bytes: Counter
    """Bytes of bodies, inflated, by form."""
    rejects: Counter
    """Requests refused, by code."""
    produce_seconds: Histogram
    """From the first byte to Kafka to its last acknowledgement."""


def metrics() -> Metrics:
    """Make the instruments."""
    meter = get_meter()
    return Metrics(
        rows=meter.create_counter("gyral_ingestion_rows", description="Rows taken"),
        bytes=meter.create_counter(
            "gyral_ingestion_bytes", "By", description="Bytes of bodies, inflated"
        ),
        rejects=meter.create_counter(
            "gyral_ingestion_rejects", description="Requests refused, by code"
        ),
        produce_seconds=meter.create_histogram(
            "gyral_ingestion_produce_seconds", "s", "Time until Kafka acknowledged a request"
        ),
    )


def observe_spool(pending_bytes: Callable[[], int]) -> None:
    """Show how much lies in the spool."""

    def observed(_options: CallbackOptions) -> list[Observation]:
        return [Observation(pending_bytes())]

    get_meter().create_observable_gauge(
        "gyral_ingestion_spool_bytes", [observed], "By", "Bytes not yet in Kafka"
    )
