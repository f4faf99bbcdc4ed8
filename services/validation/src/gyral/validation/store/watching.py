"""A stream's expectations within the transaction that holds its progress."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from gyral.contracts.monitoring import AlertRaised
from gyral.contracts.monitoring import Severity as Urgency
from gyral.contracts.specs.expectations import Severity
from gyral.validation.domain.blocks import Observed
from gyral.validation.domain.expectations import Expected, Measure, Watched
from gyral.validation.domain.outcomes import MOST_BLOCKS, Judged, Position, close, usable_until
from gyral.validation.domain.watermark import PartitionTime, StreamTime, time_of
from gyral.validation.store.blocks import BlockTx, Held

MOST_HELD = 20
"""Blocks that an announcement names."""


class StaleDeclarationError(Exception):
    """Another process counts by a newer declaration: read it, and judge the batch again."""


@dataclass(slots=True)
class Watching:
    """What is expected of a stream, where it stands, and what came out just now."""

    tx: BlockTx
    stream: StreamTime
    expected: Expected
    positions: dict[str, Position]
    judged: list[Judged] = field(default_factory=list)
    late: int = 0
    """Rows that came too late to be counted."""
    held: Sequence[Held] = ()
    usable_us: int | None = None

    @classmethod
    async def begin(
        cls,
        tx: BlockTx,
        stream: StreamTime,
        expected: Expected,
        *,
        generation: int,
        watermark_us: int | None,
        times: Mapping[int, PartitionTime],
    ) -> Self:
        """Take up what was expected before this transaction, by this declaration or before it.

        From the first transaction that knows a generation on all count by it, whichever
        process they are of; so a new expectation begins at the first block of which no row
        can have gone by uncounted.

        Raises:
            StaleDeclarationError: another process knows a newer generation.
        """
        if generation > expected.generation:
            raise StaleDeclarationError(
                f"{stream.name}: expected generation {generation}; found {expected.generation}"
            )
        watching = cls(tx, stream, expected, await tx.positions(stream.name))
        if generation < expected.generation:
            await watching._adopt(_complete_from(times, watermark_us))
        return watching

    async def _adopt(self, from_us: int | None) -> None:
        adopted = {}
        for one in self.expected.watched:
            known = self.positions.get(one.name)
            if known is None or known.measure != one.measure.id:
                next_us = None if from_us is None else one.measure.start_from(from_us)
                known = Position(one.name, one.measure.id, next_us)
            adopted[one.name] = known
        self.positions = adopted
        measures = {one.measure for one in adopted.values()}
        await self.tx.keep_only(self.stream.name, sorted(adopted), measures)
        await self.tx.save_positions(self.stream.name, list(adopted.values()))

    async def count(self, observed: Observed, before: Mapping[int, PartitionTime]) -> None:
        """Add a batch's rows, given what their partitions had shown before it."""
        promised_us = observed.promised_us(before, self.stream.lateness_us)
        wanted = {one: self._from_us(one) for one in self.expected.measures}
        found, self.late = observed.counts(wanted, promised_us)
        measures = {one.id: one for one in wanted}
        await self.tx.add_counts(self.stream.name, measures, found)

    def _from_us(self, measure: Measure) -> int | None:
        """Return where the first block of a measure begins that somebody has not judged."""
        starts = [one.next_us for one in self.positions.values() if one.measure == measure.id]
        known = [start for start in starts if start is not None]
        return min(known) if len(known) == len(starts) else None

    async def close(self, watermark_us: int | None) -> None:
        """Judge the blocks that are over, tell of the first that fails, and see what holds."""
        moved = []
        for one in self.expected.watched if watermark_us is not None else ():
            position = self.positions[one.name]
            after = await self._closed(one, position, watermark_us or 0)
            if after != position:
                self.positions[one.name] = after
                moved.append(after)
        await self.tx.save_positions(self.stream.name, moved)
        await self._write()
        self.held = await self.tx.held(self.stream.name, limit=MOST_HELD)
        first = self.held[0].start_us if self.held else None
        positions = list(self.positions.values())
        self.usable_us = usable_until(watermark_us, self.expected.watched, positions, first)

    async def _closed(self, one: Watched, position: Position, watermark_us: int) -> Position:
        end_us = one.measure.start_of(watermark_us)
        if position.next_us is not None and end_us <= position.next_us:
            return position
        counted = await self.tx.counted(
            self.stream.name,
            one.measure,
            from_us=position.next_us or 0,
            before_us=end_us,
            limit=MOST_BLOCKS + 1,
        )
        judged, after = close(one, position, counted, watermark_us)
        self.judged += judged
        return after

    async def _write(self) -> None:
        if not self.judged:
            return
        name = self.stream.name
        await self.tx.add_judged(name, self.judged)
        for one in self.judged:
            if one.told:
                await self.tx.publish(_alert(name, one))
        for measure in self.expected.measures:
            from_us = self._from_us(measure)
            if from_us is not None:
                await self.tx.forget_counts(name, measure.id, before_us=from_us)


def _complete_from(times: Mapping[int, PartitionTime], watermark_us: int | None) -> int | None:
    """Return the event time from which no row can have been accepted yet."""
    reached = [time.data_us + 1 for time in times.values() if time.data_us is not None]
    reached += [] if watermark_us is None else [watermark_us]
    return max(reached, default=None)


def _alert(stream: str, judged: Judged) -> AlertRaised:
    watched = judged.watched
    blocks = watched.severity is Severity.BLOCK
    start, end = time_of(judged.start_us), time_of(judged.end_us)
    meaning = (
        "rows from there on are held back until it is released" if blocks else "rows are used"
    )
    return AlertRaised(
        service="validation",
        subject=stream,
        severity=Urgency.PAGE if blocks else Urgency.WARNING,
        reason=(
            f"{watched.name}: expected {watched.limit}; found {judged.measured:g}"
            f" in {start.isoformat()} to {end.isoformat()}; {meaning}"
        ),
    )
