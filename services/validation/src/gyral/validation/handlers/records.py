"""Submitted records: judged, into the lake, labels told on, then counted, in this order."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from gyral.contracts.data import BatchQuarantined
from gyral.kit.changes import Changes
from gyral.kit.dataplane import Batch, Handle, Slice
from gyral.validation.domain.accounting import Marked, Quarantined
from gyral.validation.domain.refusals import Reason, Violation, failed
from gyral.validation.domain.standing import Standing
from gyral.validation.domain.watermark import PartitionTime
from gyral.validation.engine.intake import claimed, parked
from gyral.validation.engine.lake import Lake, LakeMovedError
from gyral.validation.engine.ledger import Ledger
from gyral.validation.engine.measures import Outcomes
from gyral.validation.engine.naming import spans_by_stream
from gyral.validation.engine.outlet import Outlet
from gyral.validation.engine.parking import Parking
from gyral.validation.engine.preparing import Part, Prepared, current, prepare
from gyral.validation.engine.reading import Offsets, Span
from gyral.validation.engine.schema import Schema
from gyral.validation.engine.schemas import Schemas
from gyral.validation.handlers.forwarding import Forwarding
from gyral.validation.handlers.judging import Judged, judge
from gyral.validation.handlers.metrics import Metrics
from gyral.validation.store.memory import Memory
from gyral.validation.store.progress import Step, advance
from gyral.validation.store.sinks import SinkTx
from gyral.validation.store.watching import StaleDeclarationError

_TRIES = 5
_OF_OTHERS = (LakeMovedError, StaleDeclarationError)
TOPIC = "data.record.submitted.v1"


@dataclass(frozen=True, slots=True)
class Records:
    """The sink of submitted records."""

    schemas: Schemas
    memory: Memory
    parking: Parking
    lake: Lake
    ledger: Ledger
    outlet: Outlet
    forwarding: Forwarding
    changes: Changes
    outcomes: Outcomes
    metrics: Metrics
    now_us: Callable[[], int]
    future_us: int
    crash: Callable[[str], None]
    """Called at named points; tests end the process there."""

    async def prepare(self, slices: tuple[Slice, ...]) -> Handle[SinkTx]:
        """Take a batch apart and return what gives every record of it its one place."""
        partitions = await self.outlet.partitions(TOPIC)
        prepared = await prepare(slices, self.schemas, len(partitions))

        async def handle(batch: Batch[SinkTx]) -> None:
            await self._batch(batch, prepared)

        return handle

    async def batch(self, batch: Batch[SinkTx]) -> None:
        """Give every record of a batch its one place; redone after a crash, nothing doubles."""
        await self._batch(batch, None)

    async def park(self, batch: Batch[SinkTx], error: Exception) -> None:
        """Put a record that cannot be judged into quarantine.

        Raises:
            Exception: `error`, where rows of it are in the lake: they cannot be refused now; or
                where it is not the record's fault but that of others who write.
        """
        if isinstance(error, _OF_OTHERS):
            raise error
        await self._again(lambda: self._park(batch, error))
        self.changes.notify()

    async def _park(self, batch: Batch[SinkTx], error: Exception) -> None:
        [part] = batch.slices
        [record] = part.records
        refused = parked(record, failed(error), self.schemas)
        spans = [Span(part.topic, part.partition, record.offset, record.offset)]
        names = {*claimed(record), *(row.stream for row in refused)}
        named = {
            name: spans for name in sorted(names) if isinstance(self.schemas.get(name), Schema)
        }
        for name in named:
            if (await self.lake.survey(name, spans)).landed:
                raise error
        await self._settle_rest(named)
        partitions = await self.outlet.partitions(TOPIC)
        await self._commit(batch, [], refused, [], [], partitions=partitions)

    async def _batch(self, batch: Batch[SinkTx], prepared: Prepared | None) -> None:
        ahead = [prepared]
        # What was prepared serves the first attempt: another's declaration may be newer.
        await self._again(lambda: self._settle(batch, ahead.pop() if ahead else None))
        await self.forwarding.try_run()
        self.changes.notify()

    async def _again(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do work anew, a few times, when other writers were faster or know more."""
        for _ in range(1, _TRIES):
            try:
                return await work()
            except LakeMovedError:
                continue
            except StaleDeclarationError:
                await self.schemas.refresh()
        return await work()

    async def _settle(self, batch: Batch[SinkTx], ahead: Prepared | None) -> None:
        self.memory.follow(batch.slices)
        partitions = await self.outlet.partitions(TOPIC)
        prepared = await current(ahead, batch.slices, self.schemas, len(partitions))
        latest_us = self.now_us() + self.future_us
        markers, refused = prepared.found.markers(latest_us)
        refused += prepared.found.refused
        streams = []
        for part in prepared.streams.values():
            judged = await self._judge(part, refused, latest_us)
            if judged is not None:
                streams.append(judged)
        named = spans_by_stream(prepared.streams, refused, self.schemas)
        refused = await self._not_landed(refused, named)
        standings = await asyncio.gather(
            *(self._write(one, named[one.schema.stream]) for one in streams)
        )
        await self._settle_rest(named)
        self.crash("after_lake")
        await self._tell_labels(streams)
        self.crash("after_labels")
        await self._commit(batch, markers, refused, streams, standings, partitions=partitions)
        self.crash("after_commit")

    async def _judge(
        self, part: Part, refused: list[Quarantined], latest_us: int
    ) -> Judged | None:
        group, schema = part.whole, part.whole.schema
        there = await self.lake.survey(schema.stream, group.spans(), schema.columns)
        if there.misfit is None:
            return await judge(part, self.memory, there, latest_us=latest_us)
        wrong = Violation(Reason.UNUSABLE_SCHEMA, there.misfit)
        refused += [group.refuse(at, wrong) for at in range(len(group))]
        return None

    async def _write(self, judged: Judged, spans: Sequence[Span]) -> Standing | None:
        """Append what the lake lacks and return what it holds then; None when untouched."""
        fresh = judged.fresh()
        name = judged.schema.stream
        if fresh is not None:
            return await self.ledger.append(name, fresh, spans, judged.change())
        return await self.ledger.latest(name) if judged.rows else None

    async def _not_landed(
        self, refused: Sequence[Quarantined], named: Mapping[str, Sequence[Span]]
    ) -> list[Quarantined]:
        """Return the refused without those in the lake, by whatever declaration they came."""
        left = list(refused)
        for name in sorted({row.stream for row in refused} & named.keys()):
            landed = (await self.lake.survey(name, named[name])).landed
            if landed:
                left = [row for row in left if not _is_in(row, name, landed)]
        return left

    async def _settle_rest(self, named: Mapping[str, Sequence[Span]]) -> None:
        """Let nobody append what we decided to put elsewhere; nothing to do where we wrote."""
        for name, spans in sorted(named.items()):
            schema = self.schemas.get(name)
            if isinstance(schema, Schema):
                await self.ledger.settle(name, schema.columns, spans)

    async def _tell_labels(self, streams: Sequence[Judged]) -> None:
        labelled = self.forwarding.label_streams()
        labels = [
            part for one in streams if one.schema.stream in labelled for part in one.labels()
        ]
        if labels:
            await self.outlet.labels(labels)

    async def _commit(
        self,
        batch: Batch[SinkTx],
        markers: Sequence[Marked],
        unsorted: Sequence[Quarantined],
        streams: Sequence[Judged],
        standings: Sequence[Standing | None],
        *,
        partitions: Sequence[int],
    ) -> None:
        refused = [*unsorted, *(row for one in streams for row in one.refused)]
        steps = _steps(self.schemas, streams, standings, markers, refused)
        learned = [
            each
            for one in streams
            for partition, chosen in one.by_partition()
            for each in await self.memory.learn(
                one.schema.stream,
                partition,
                one.identities.take(chosen),
                one.schema.dedupe_us,
            )
        ]
        async with batch.commit() as tx:
            await tx.quarantine(self.parking.parked(refused))
            await tx.count_duplicates([row for one in streams for row in one.duplicates])
            await tx.count_markers(markers)
            ids = [await tx.remember(one) for one in learned]
            reports = await advance(tx, steps, partitions=partitions, lake_uri=self.lake.root)
            await publish_refusals(tx, refused)
            self.crash("before_commit")
        self.memory.settle(batch.slices, learned, ids)
        for one in streams:
            self.outcomes.accepted(one.schema.stream, len(one.rows), len(one.duplicates))
        self.outcomes.refused(refused)
        self.metrics.tell(reports)


def _is_in(row: Quarantined, table: str, landed: Offsets) -> bool:
    at = row.place
    return row.stream == table and (at.partition, at.offset, at.row) in landed


async def publish_refusals(tx: SinkTx, refused: Sequence[Quarantined]) -> None:
    """Tell, stream by stream, how many rows were refused for which reason."""
    reasons: dict[str, Counter[str]] = {}
    for row in refused:
        reasons.setdefault(row.stream, Counter())[row.violation.reason.value] += 1
    for stream, counts in sorted(reasons.items()):
        rows = sum(counts.values())
        await tx.publish(BatchQuarantined(stream=stream, rows=rows, reasons=dict(counts)))


def _steps(
    schemas: Schemas,
    streams: Sequence[Judged],
    standings: Sequence[Standing | None],
    markers: Sequence[Marked],
    refused: Sequence[Quarantined],
) -> list[Step]:
    """Return what the batch adds to each declared stream it speaks of."""
    judged = {
        one.schema.stream: (one, standing)
        for one, standing in zip(streams, standings, strict=True)
    }
    quarantined = Counter(row.stream for row in refused)
    times: dict[str, dict[int, PartitionTime]] = {
        name: {} for name in quarantined if isinstance(schemas.get(name), Schema)
    }
    times |= {name: one.times() for name, (one, _) in judged.items()}
    for marker in markers:
        of_stream = times.setdefault(marker.subject, {})
        partition = marker.place.partition
        seen = of_stream.get(partition, PartitionTime())
        of_stream[partition] = seen.merged(PartitionTime(marker_us=marker.event_time_us))
    steps = []
    for name, of_stream in times.items():
        schema = schemas.get(name)
        assert isinstance(schema, Schema)  # noqa: S101 - rows and markers of others were refused
        one, standing = judged.get(name, (None, None))
        steps.append(
            Step(
                stream=schema.time,
                expected=schema.expected,
                times=of_stream,
                standing=standing,
                rows=0 if one is None else len(one.rows),
                quarantined=quarantined[name],
                duplicates=0 if one is None else len(one.duplicates),
                observed=None if one is None else one.observed(markers),
            )
        )
    return steps
