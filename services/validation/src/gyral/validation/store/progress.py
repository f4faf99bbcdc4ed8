"""Time and dataset versions of streams, moved within a batch's transaction and told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from gyral.contracts.data import DatasetCommitted
from gyral.contracts.names import DatasetPin
from gyral.validation.domain.standing import Standing
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
    standing: Standing | None = None
    """Where the table stands after the batch; None when it was not touched."""
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
        told = (after.standing, after.watermark_us)
        if None not in told and told != (before.standing, before.watermark_us):
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
        standing=_later(before.standing, step.standing),
        rows=before.rows + step.rows,
        quarantined=before.quarantined + step.quarantined,
        duplicates=before.duplicates + step.duplicates,
    )


async def announce(tx: SinkTx, stream: str, progress: Progress, *, lake_uri: str) -> None:
    """Publish a stream's table as it is now; its version and watermark are known."""
    standing, watermark_us = progress.standing, progress.watermark_us
    assert standing is not None  # noqa: S101 - the caller's condition
    assert watermark_us is not None  # noqa: S101
    await tx.add_dataset(stream, standing, watermark_us)
    pin = DatasetPin(
        stream=stream,
        version=standing.version,
        watermark=time_of(watermark_us),
        content=standing.content.digest,
        schema_version=standing.schema_version or None,
    )
    rows = standing.content.rows
    await tx.publish(DatasetCommitted(dataset=pin, rows=rows, table_uri=f"{lake_uri}/{stream}"))


def _later(before: Standing | None, now: Standing | None) -> Standing | None:
    """Return the later version; what it holds follows from the version alone."""
    if before is None or now is None:
        return now or before
    return now if now.version >= before.version else before


def time_of(us: int) -> datetime:
    """Return microseconds UTC as a time."""
    return _EPOCH + timedelta(microseconds=us)


def _not_before_1970(us: int | None) -> int | None:
    return None if us is None else max(us, 0)
