"""Submitted records: judged, into the lake, labels told on, then counted, in this order."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gyral.contracts.data import BatchQuarantined
from gyral.kit.changes import Changes
from gyral.kit.dataplane import Batch
from gyral.validation.domain.accounting import Marked, Quarantined
from gyral.validation.domain.refusals import Reason, Violation
from gyral.validation.domain.standing import Standing
from gyral.validation.domain.watermark import PartitionTime
from gyral.validation.engine.intake import Group, Sorted, sort
from gyral.validation.engine.lake import Lake, LakeMovedError
from gyral.validation.engine.ledger import Ledger
from gyral.validation.engine.measures import Outcomes
from gyral.validation.engine.outlet import Outlet
from gyral.validation.engine.parking import Parking
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

    async def batch(self, batch: Batch[SinkTx]) -> None:
        """Give every record of a batch its one place; redone after a crash, nothing doubles."""
        for attempt in range(1, _TRIES + 1):
            try:
                await self._settle(batch)
            except (LakeMovedError, StaleDeclarationError) as error:
                if attempt == _TRIES:
                    raise
                if isinstance(error, StaleDeclarationError):
                    await self.schemas.refresh()
            else:
                break
        await self.forwarding.try_run()
        self.changes.notify()

    async def _settle(self, batch: Batch[SinkTx]) -> None:
        self.memory.follow(batch.slices)
        partitions = await self.outlet.partitions(TOPIC)
        found = await self._sorted(batch)
        streams = [
            judged
            for _, group in sorted(found.groups.items())
            if (judged := await self._judge(group, found, len(partitions))) is not None
        ]
        standings = await asyncio.gather(*(self._write(one, found) for one in streams))
        self.crash("after_lake")
        await self._tell_labels(streams)
        self.crash("after_labels")
        await self._commit(batch, found, streams, standings, partitions)
        self.crash("after_commit")

    async def _sorted(self, batch: Batch[SinkTx]) -> Sorted:
        """Take the batch apart, once more when declarations it needs came only now."""
        latest_us = self.now_us() + self.future_us
        found = sort(batch.slices, self.schemas, latest_us=latest_us)
        if found.stale:
            await self.schemas.refresh()
            found = sort(batch.slices, self.schemas, latest_us=latest_us)
        return found

    async def _judge(self, group: Group, found: Sorted, partitions: int) -> Judged | None:
        schema = group.schema
        there = await self.lake.survey(schema.stream, group.spans(), schema.columns)
        if there.misfit is None:
            latest_us = self.now_us() + self.future_us
            return await judge(
                group, self.memory, there.landed, partitions=partitions, latest_us=latest_us
            )
        wrong = Violation(Reason.UNUSABLE_SCHEMA, there.misfit)
        found.refused += [group.refuse(at, wrong) for at in range(len(group))]
        return None

    async def _write(self, judged: Judged, found: Sorted) -> Standing | None:
        """Append what the lake lacks and return what it holds then; None when untouched."""
        fresh = judged.fresh()
        name = judged.schema.stream
        if fresh is not None:
            spans = found.groups[name].spans()
            return await self.ledger.append(name, fresh, spans, judged.change())
        return await self.ledger.latest(name) if judged.rows else None

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
        found: Sorted,
        streams: Sequence[Judged],
        standings: Sequence[Standing | None],
        partitions: Sequence[int],
    ) -> None:
        refused = [*found.refused, *(row for one in streams for row in one.refused)]
        steps = _steps(self.schemas, streams, standings, found.markers, refused)
        learned = [
            await self.memory.learn(one.schema.stream, partition, one.identities.take(chosen))
            for one in streams
            for partition, chosen in one.by_partition()
        ]
        async with batch.commit() as tx:
            await tx.quarantine(self.parking.parked(refused))
            await tx.count_duplicates([row for one in streams for row in one.duplicates])
            await tx.count_markers(found.markers)
            ids = [await tx.remember(one) for one in learned]
            reports = await advance(tx, steps, partitions=partitions, lake_uri=self.lake.root)
            await publish_refusals(tx, refused)
            self.crash("before_commit")
        self.memory.settle(batch.slices, learned, ids)
        for one in streams:
            self.outcomes.accepted(one.schema.stream, len(one.rows), len(one.duplicates))
        self.outcomes.refused(refused)
        self.metrics.tell(reports)


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
        name: one.times() for name, (one, _) in judged.items()
    }
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
