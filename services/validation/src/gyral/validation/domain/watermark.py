"""How far a stream's event time has come: per partition, then as the least of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gyral.contracts.specs.stream import Clock

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PartitionTime:
    """What one partition has shown of a stream, in microseconds of event time."""

    data_us: int | None = None
    """Largest event time of an accepted row."""
    marker_us: int | None = None
    """Largest marker."""
    idle_us: int | None = None
    """Largest time at which the partition was known to hold nothing unread; wall clock only."""

    def merged(self, other: "PartitionTime") -> "PartitionTime":
        """Return the later of both in each respect: time never goes back."""
        return PartitionTime(
            latest(self.data_us, other.data_us),
            latest(self.marker_us, other.marker_us),
            latest(self.idle_us, other.idle_us),
        )

    def watermark(self, lateness_us: int) -> int | None:
        """Return the time up to which this partition is complete.

        Rows may come as much as `lateness_us` after later ones; a marker speaks for itself.
        """
        data = None if self.data_us is None else self.data_us - lateness_us
        idle = None if self.idle_us is None else self.idle_us - lateness_us
        return latest(latest(data, idle), self.marker_us)


@dataclass(frozen=True, slots=True)
class StreamTime:
    """How a stream counts its time."""

    name: str
    clock: Clock
    lateness_us: int


def time_of(us: int) -> datetime:
    """Return microseconds UTC as a time."""
    return _EPOCH + timedelta(microseconds=us)


def latest(one: int | None, other: int | None) -> int | None:
    """Return the larger of two times, either of which may be unknown."""
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def stream_watermark(
    times: Mapping[int, PartitionTime], partitions: Iterable[int], lateness_us: int
) -> int | None:
    """Return the least watermark of all partitions; None while one of them is unknown."""
    return _least(
        times.get(partition, PartitionTime()).watermark(lateness_us) for partition in partitions
    )


def forwardable(
    times: Mapping[int, PartitionTime],
    partitions: Iterable[int],
    lateness_us: int,
    clock: Clock,
) -> int | None:
    """Return the watermark that may be told to those behind us.

    On an event clock these are markers alone. Where a batch of rows ends depends on the
    machine, a marker does not: what is decided at one is the same in every replay.
    """
    if clock is Clock.WALL:
        return stream_watermark(times, partitions, lateness_us)
    return _least(times.get(partition, PartitionTime()).marker_us for partition in partitions)


def _least(marks: Iterable[int | None]) -> int | None:
    known = []
    for mark in marks:
        if mark is None:
            return None
        known.append(mark)
    return min(known, default=None)
