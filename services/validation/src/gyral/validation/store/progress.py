"""Time and dataset versions of streams, moved within a batch's transaction and told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from gyral.contracts.data import DatasetCommitted
from gyral.contracts.names import DatasetPin
from gyral.validation.domain.watermark import (
    PartitionTime,
    StreamTime,
    forwardable,
    latest,
    stream_watermark,
)
from gyral.validation.store.sinks import Progress, SinkTx

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Step:
    """What a batch adds to one stream."""

    stream: StreamTime
    times: Mapping[int, PartitionTime]
    version: int | None = None
    """The table's version after the batch; None when it was not touched."""
    rows: int = 0
    quarantined: int = 0
    duplicates: int = 0


async def advance(
    tx: SinkTx, steps: Sequence[Step], *, partitions: Sequence[int], lake_uri: str
) -> None:
    """Apply all steps of a batch and announce what changed."""
    held = await tx.locked_progress([step.stream.name for step in steps])
    for step in sorted(steps, key=lambda step: step.stream.name):
        before = held[step.stream.name]
        after = await _moved(tx, step, before, partitions)
        await tx.save_progress(step.stream.name, after)
        told = (after.table_version, after.watermark_us)
        if None not in told and told != (before.table_version, before.watermark_us):
            await announce(tx, step.stream.name, after, lake_uri=lake_uri)


async def _moved(
    tx: SinkTx, step: Step, before: Progress, partitions: Sequence[int]
) -> Progress:
    stream = step.stream
    times = await tx.merge_times(stream.name, step.times)
    watermark = stream_watermark(times, partitions, stream.lateness_us)
    forward = forwardable(times, partitions, stream.lateness_us, stream.clock)
    return replace(
        before,
        watermark_us=_not_before_1970(latest(before.watermark_us, watermark)),
        forward_us=_not_before_1970(latest(before.forward_us, forward)),
        table_version=latest(before.table_version, step.version),
        rows=before.rows + step.rows,
        quarantined=before.quarantined + step.quarantined,
        duplicates=before.duplicates + step.duplicates,
    )


async def announce(tx: SinkTx, stream: str, progress: Progress, *, lake_uri: str) -> None:
    """Publish a stream's table as it is now; its version and watermark are known."""
    version, watermark_us = progress.table_version, progress.watermark_us
    assert version is not None  # noqa: S101 - the caller's condition
    assert watermark_us is not None  # noqa: S101
    await tx.add_dataset(stream, version, watermark_us, progress.rows)
    pin = DatasetPin(stream=stream, version=version, watermark=time_of(watermark_us))
    await tx.publish(
        DatasetCommitted(dataset=pin, rows=progress.rows, table_uri=f"{lake_uri}/{stream}")
    )


def time_of(us: int) -> datetime:
    """Return microseconds UTC as a time."""
    return _EPOCH + timedelta(microseconds=us)


def _not_before_1970(us: int | None) -> int | None:
    return None if us is None else max(us, 0)
