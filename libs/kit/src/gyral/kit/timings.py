"""How long answers take: a Prometheus histogram for a hot path, a bisection an answer."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import REGISTRY
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

BOUNDS_S = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)


class Timings(Collector):
    """Seconds by one label, shown with everything else that the process measures.

    OpenTelemetry's own histogram takes locks, contexts and attribute sets: as much time as
    reading a request does.
    """

    def __init__(self, name: str, said: str, *, label: str) -> None:
        self._name = name
        self._said = said
        self._label = label
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def shown_in(self, registry: CollectorRegistry = REGISTRY) -> "Timings":
        """Have the process show them; returns itself."""
        registry.register(self)
        return self

    def record(self, seconds: float, value: str) -> None:
        """Count one answer under a value of the label."""
        counts = self._counts.get(value)
        if counts is None:
            counts = self._counts[value] = [0] * (len(BOUNDS_S) + 1)
            self._sums[value] = 0.0
        counts[bisect_left(BOUNDS_S, seconds)] += 1
        self._sums[value] += seconds

    def describe(self) -> Sequence[HistogramMetricFamily]:
        """Return nothing: a second one in the same process is no error."""
        return ()

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the histogram as Prometheus has it: cumulative."""
        family = HistogramMetricFamily(self._name, self._said, labels=[self._label])
        for value, counts in sorted(self._counts.items()):
            buckets, total = [], 0
            for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), counts, strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric([value], buckets, self._sums[value])
        yield family
