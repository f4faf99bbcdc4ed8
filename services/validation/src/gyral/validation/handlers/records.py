"""Submitted records: judged, into the lake, labels told on, then counted, in this order."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gyral.contracts.data import BatchQuarantined
from gyral.kit.changes import Changes
from gyral.kit.dataplane import Batch
from gyral.validation.domain.accounting import Marked, Quarantined
from gyral.validation.domain.refusals import Reason, Violation, shown
from gyral.validation.domain.watermark import PartitionTime
from gyral.validation.engine.intake import Group, Sorted, refuse, sort
from gyral.validation.engine.lake import Lake, LakeMovedError
from gyral.validation.engine.outlet import Outlet
from gyral.validation.engine.schema import Schema
from gyral.validation.engine.schemas import Schemas
from gyral.validation.handlers.forwarding import Forwarding
from gyral.validation.handlers.judging import Judged, judge, spans_of
from gyral.validation.store.memory import Memory
from gyral.validation.store.progress import Step, advance
from gyral.validation.store.sinks import SinkTx

_TRIES = 5
TOPIC = "data.record.submitted.v1"


@dataclass(frozen=True, slots=True)
class Records:
    """The sink of submitted records."""

    schemas: Schemas
    memory: Memory
    lake: Lake
    outlet: Outlet
    forwarding: Forwarding
    changes: Changes
    now_us: Callable[[], int]
    future_us: int
    crash: Callable[[str], None]
    """Called at named points; tests end the process there."""

    async def batch(self, batch: Batch[SinkTx]) -> None:
        """Give every record of a batch its one place; redone after a crash, nothing doubles."""
        for attempt in range(1, _TRIES + 1):
            try:
                await self._settle(batch)
            except LakeMovedError:
                if attempt == _TRIES:
                    raise
            else:
                break
        await self.forwarding.try_run()
        self.changes.notify()

    async def _settle(self, batch: Batch[SinkTx]) -> None:
        found = sort(batch.slices)
        await self._refresh_for(found)
        latest_us = self.now_us() + self.future_us
        judged = await asyncio.gather(
            *(
                self._judge(name, group, found, latest_us)
                for name, group in sorted(found.groups.items())
            )
        )
        streams = [one for one in judged if one is not None]
        markers = self._markers(batch, found, latest_us)
        versions = await asyncio.gather(*(self._write(one, found) for one in streams))
        self.crash("after_lake")
        labelled = self.forwarding.label_streams()
        labels = [
            part for one in streams if one.schema.stream in labelled for part in one.labels()
        ]
        if labels:
            await self.outlet.labels(labels)
        self.crash("after_labels")
        refused = [*found.refused, *(row for one in streams for row in one.refused)]
        steps = _steps(self.schemas, streams, versions, markers, refused)
        partitions = await self.outlet.partitions(TOPIC)
        async with batch.commit() as tx:
            await tx.quarantine(refused)
            await tx.count_duplicates([row for one in streams for row in one.duplicates])
            await tx.count_markers(markers)
            for one in streams:
                await tx.remember(one.schema.stream, one.identities)
            await advance(tx, steps, partitions=partitions, lake_uri=self.lake.root)
            await publish_refusals(tx, refused)
            self.crash("before_commit")
        self.crash("after_commit")

    async def _refresh_for(self, found: Sorted) -> None:
        """Read the declarations to their end, once, when a row or marker needs a newer one."""
        for name, group in found.groups.items():
            schema = self.schemas.get(name)
            newest = max(envelope.schema_version for envelope in group.envelopes)
            if schema is None or (isinstance(schema, Schema) and newest > schema.generation):
                return await self.schemas.refresh()
        if any(self.schemas.get(marker.subject) is None for marker in found.markers):
            await self.schemas.refresh()
        return None

    async def _judge(
        self, name: str, group: Group, found: Sorted, latest_us: int
    ) -> Judged | None:
        schema = self.schemas.get(name)
        if schema is None:
            detail = f"stream: expected a declared stream; found {shown(name)}"
            schema = Violation(Reason.UNKNOWN_STREAM, detail)
        if isinstance(schema, Schema):
            there = await self.lake.survey(name, spans_of(group), schema.columns)
            if there.misfit is None:
                return await judge(
                    group, schema, self.memory, there.landed, latest_us=latest_us
                )
            schema = Violation(Reason.UNUSABLE_SCHEMA, there.misfit)
        for record, envelope in zip(group.records, group.envelopes, strict=True):
            found.refused.append(
                refuse(
                    record,
                    schema,
                    stream=name,
                    record_key=envelope.record_key,
                    schema_version=envelope.schema_version,
                )
            )
        return None

    def _markers(self, batch: Batch[SinkTx], found: Sorted, latest_us: int) -> list[Marked]:
        """Return the markers that count; the others are refused like rows."""
        kept = []
        records = {
            (part.topic, part.partition, record.offset): record
            for part in batch.slices
            if found.markers
            for record in part.records
        }
        for marker in found.markers:
            place = marker.place
            record = records[place.topic, place.partition, place.offset]
            if not isinstance(self.schemas.get(marker.subject), Schema):
                detail = f"subject: expected a declared stream; found {shown(marker.subject)}"
                wrong = Violation(Reason.UNKNOWN_STREAM, detail)
                found.refused.append(refuse(record, wrong, stream=marker.subject))
            elif not 0 <= marker.event_time_us <= latest_us:
                wrong = Violation(
                    Reason.FUTURE, f"event_time: expected at most {latest_us} (us)"
                )
                found.refused.append(refuse(record, wrong, stream=marker.subject))
            else:
                kept.append(marker)
        return kept

    async def _write(self, judged: Judged, found: Sorted) -> int | None:
        """Append what the lake lacks and return the table's version; None when untouched."""
        fresh = judged.fresh()
        name = judged.schema.stream
        if fresh is not None:
            return await self.lake.append(name, fresh, spans_of(found.groups[name]))
        return await self.lake.version(name) if judged.accepted else None


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
    versions: Sequence[int | None],
    markers: Sequence[Marked],
    refused: Sequence[Quarantined],
) -> list[Step]:
    """Return what the batch adds to each declared stream it speaks of."""
    judged = {
        one.schema.stream: (one, version)
        for one, version in zip(streams, versions, strict=True)
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
        one, version = judged.get(name, (None, None))
        steps.append(
            Step(
                stream=schema.time,
                times=of_stream,
                version=version,
                rows=0 if one is None else one.accepted,
                quarantined=quarantined[name],
                duplicates=0 if one is None else len(one.duplicates),
            )
        )
    return steps
