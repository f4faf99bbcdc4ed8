"""Time and dataset versions of streams, moved within a batch's transaction and told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gyral.contracts.data import DatasetCommitted, Violation
from gyral.contracts.names import DatasetPin
from gyral.validation.domain.blocks import Observed
from gyral.validation.domain.expectations import Expected
from gyral.validation.domain.outcomes import MOST_BLOCKS, Judged
from gyral.validation.domain.standing import Standing
from gyral.validation.domain.watermark import (
    PartitionTime,
    StreamTime,
    forwardable,
    latest,
    stream_watermark,
    time_of,
)
from gyral.validation.store.blocks import Held
from gyral.validation.store.sinks import Progress, SinkTx
from gyral.validation.store.watching import Watching


@dataclass(frozen=True, slots=True)
class Step:
    """What a batch adds to one stream."""

    stream: StreamTime
    expected: Expected
    times: Mapping[int, PartitionTime]
    standing: Standing | None = None
    """Where the table stands after the batch; None when it was not touched."""
    rows: int = 0
    quarantined: int = 0
    duplicates: int = 0
    observed: Observed | None = None
    """The rows' columns; None where nothing is expected of them."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came out for one stream, to be told once it is committed."""

    stream: str
    judged: Sequence[Judged]
    late: int

    @property
    def unfinished(self) -> bool:
        """Tell whether more blocks may be over than are judged at once."""
        return len(self.judged) >= MOST_BLOCKS


async def advance(
    tx: SinkTx, steps: Sequence[Step], *, partitions: Sequence[int], lake_uri: str
) -> list[Report]:
    """Apply all steps of a batch and announce what changed.

    Raises:
        StaleDeclarationError: another process knows a newer declaration of a stream.
    """
    held = await tx.locked_progress([step.stream.name for step in steps])
    reports = []
    for step in sorted(steps, key=lambda step: step.stream.name):
        name, before = step.stream.name, held[step.stream.name]
        watching = await _watching(tx, step, before)
        after = await _moved(tx, step, before, partitions)
        if watching is None:
            after = replace(after, usable_us=after.watermark_us)
        else:
            await watching.close(after.watermark_us)
            usable_us = latest(before.usable_us, watching.usable_us)
            generation = step.expected.generation
            after = replace(after, usable_us=usable_us, generation=generation)
            reports.append(Report(name, watching.judged, watching.late))
        await tx.save_progress(name, after)
        if _is_news(before, after):
            holding = () if watching is None else watching.held
            await announce(tx, name, after, holding, lake_uri=lake_uri)
    return reports


async def _watching(tx: SinkTx, step: Step, before: Progress) -> Watching | None:
    """Count a batch's rows for what is expected of them; None where nothing ever was."""
    if not step.expected.watched and not before.generation:
        return None
    times = await tx.partition_times(step.stream.name)
    watching = await Watching.begin(
        tx,
        step.stream,
        step.expected,
        generation=before.generation,
        watermark_us=before.watermark_us,
        times=times,
    )
    if step.observed is not None:
        await watching.count(step.observed, times)
    return watching


def _is_news(before: Progress, after: Progress) -> bool:
    told = (after.standing, after.watermark_us, after.usable_us)
    return None not in told and told != (
        before.standing,
        before.watermark_us,
        before.usable_us,
    )


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


async def announce(
    tx: SinkTx, stream: str, progress: Progress, held: Sequence[Held], *, lake_uri: str
) -> None:
    """Publish a stream's table as it is now; its version and watermark are known."""
    standing, watermark_us = progress.standing, progress.watermark_us
    usable_us = progress.usable_us
    assert standing is not None  # noqa: S101 - the caller's condition
    assert watermark_us is not None  # noqa: S101
    assert usable_us is not None  # noqa: S101
    await tx.add_dataset(stream, standing, watermark_us, usable_us=usable_us)
    pin = DatasetPin(
        stream=stream,
        version=standing.version,
        watermark=time_of(watermark_us),
        content=standing.content.digest,
        schema_version=standing.schema_version or None,
    )
    await tx.publish(
        DatasetCommitted(
            dataset=pin,
            rows=standing.content.rows,
            table_uri=f"{lake_uri}/{stream}",
            passed_until=None if usable_us == watermark_us else time_of(usable_us),
            violations=tuple(_violation(one) for one in held),
        )
    )


def _violation(one: Held) -> Violation:
    return Violation(
        expectation=one.expectation,
        block_start=time_of(one.start_us),
        block_end=time_of(one.end_us),
        measured=one.measured,
        limit=one.expected,
    )


def _later(before: Standing | None, now: Standing | None) -> Standing | None:
    """Return the later version; what it holds follows from the version alone."""
    if before is None or now is None:
        return now or before
    return now if now.version >= before.version else before


def _not_before_1970(us: int | None) -> int | None:
    return None if us is None else max(us, 0)
