"""The data plane: rows are kept as they come, and the markers among them close blocks."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from gyral.kit.changes import Changes
from gyral.kit.dataplane import Batch
from gyral.kit.telemetry import get_log
from gyral.kit.tx import Begin
from gyral.monitor.domain.watches import Source, Watch
from gyral.monitor.engine.counting import Rows, count
from gyral.monitor.engine.records import Answer, Cell, Placed, PlacedLabels, read
from gyral.monitor.handlers.closing import Closing
from gyral.monitor.store import MonitorTx
from gyral.monitor.store.champions import Profiles
from gyral.monitor.store.observations import (
    LABELS,
    PARTITIONS,
    PREDICTIONS,
    Counts,
    LabelRows,
    PredictionRows,
    Unbinned,
)
from gyral.monitor.store.specs import Specs

log = get_log()
_cell = msgspec.json.Decoder(Cell).decode


@dataclass(frozen=True, slots=True)
class Observing:
    """The monitor's reactions to both logs, with everything they need in plain sight."""

    begin: Begin[MonitorTx]
    specs: Specs
    profiles: Profiles
    closing: Closing
    changes: Changes

    async def predictions_and_labels(self, batch: Batch[MonitorTx]) -> None:
        """Keep what a batch of both logs brings; close the blocks that its markers allow."""
        async with batch.commit() as tx:
            before = await tx.watermarks(sorted({part.topic for part in batch.slices}))
            reading = read(batch.slices, before)
            await self._keep_answers(tx, reading.answers)
            await self._keep_labels(tx, reading.labels)
            await tx.advance_watermarks(
                (*place, time_us)
                for place, time_us in reading.watermarks.items()
                if before.get(place) != time_us
            )
            for watch in self._watching(reading.marked):
                await self.closing.close(tx, watch)
        self.changes.notify()

    async def advance(self, marks: Iterable[tuple[str, str, int]]) -> None:
        """Move subjects to a time in whole topics, as the wall clock does; close blocks."""
        told = list(marks)
        moved = {(topic, subject) for topic, subject, _ in told}
        async with self.begin() as tx:
            await tx.advance_watermarks(
                (topic, subject, partition, time_us)
                for topic, subject, time_us in told
                for partition in range(PARTITIONS[topic])
            )
            for watch in self._watching(moved):
                await self.closing.close(tx, watch)
        self.changes.notify()

    async def _known(self, placed: Sequence[Placed]) -> list[tuple[Placed, Watch]]:
        """Pair answers with how their models are watched; an unknown model has no route."""
        names = {it.answer.model for it in placed}
        if any(self.specs.watch(name) is None for name in names):
            await self.specs.refresh()
        found = {name: self.specs.watch(name) for name in sorted(names)}
        unknown = [name for name, watch in found.items() if watch is None]
        if unknown:
            log.warning("predictions.unknown_model", models=len(unknown), first=unknown[0][:63])
        return [(it, watch) for it in placed if (watch := found[it.answer.model]) is not None]

    def _watching(self, marked: set[tuple[str, str]]) -> list[Watch]:
        """Return the models whose time moved, by name: locks are taken in one order."""
        return [
            watch
            for watch in self.specs.watches()
            if (PREDICTIONS, watch.model) in marked or (LABELS, watch.source.stream) in marked
        ]

    async def _keep_answers(self, tx: MonitorTx, placed: Sequence[Placed]) -> None:
        known = await self._known(placed)
        new = PredictionRows()
        for it, watch in known:
            _append(new, it, watch)
        if not new.rows:
            return
        inserted: dict[tuple[str, UUID], list[int]] = defaultdict(list)
        for model, request, row in sorted(await tx.add_predictions(new)):
            inserted[model, request].append(row)
        counted: dict[tuple[str, int], dict[UUID, tuple[Answer, Rows]]] = defaultdict(dict)
        for it, watch in known:
            answer = it.answer
            rows = inserted.pop((answer.model, answer.request_id), None)
            if rows:
                blocks = [watch.floor(_time_us(answer, row)) for row in rows]
                counted[answer.model, answer.version][answer.request_id] = (
                    answer,
                    Rows(bytes(answer.features), rows, blocks),
                )
        for (model, version), requests in sorted(counted.items()):
            await self._count(tx, model, version, requests)

    async def _count(
        self,
        tx: MonitorTx,
        model: str,
        version: int,
        requests: dict[UUID, tuple[Answer, Rows]],
    ) -> None:
        """Count rows into their version's bins, or keep them until it is known."""
        profile = await self.profiles.of(tx, model, version)
        if profile is None:
            await tx.add_unbinned(
                Unbinned(model, version, block, request, part, rows.features)
                for request, (_, rows) in requests.items()
                for block, part in _by_block(rows).items()
            )
            return
        found = count(profile.features.bins, [rows for _, rows in requests.values()])
        await tx.add_counts(
            Counts(model, version, block, counts) for block, counts in found.items()
        )

    async def _keep_labels(self, tx: MonitorTx, placed: Sequence[PlacedLabels]) -> None:
        sources = {watch.source for watch in self.specs.watches()}
        new = LabelRows()
        for it in placed:
            for source in sorted(sources, key=lambda source: source.name):
                if source.stream == it.accepted.stream:
                    _append_labels(new, it, source)
        if new.keys:
            await tx.add_labels(new)


def _append(new: PredictionRows, placed: Placed, watch: Watch) -> None:
    """Take over an answer's rows, but those of blocks its own partition has declared over."""
    answer, marked_us = placed.answer, placed.marked_us
    for row, probability in enumerate(answer.probabilities):
        time_us = _time_us(answer, row)
        late = marked_us is not None and watch.floor(time_us) + watch.block_us <= marked_us
        if probability is None or late:
            continue
        new.models.append(answer.model)
        new.request_ids.append(answer.request_id)
        new.rows.append(row)
        new.versions.append(answer.version)
        new.entities.append(answer.entity_keys[row])
        new.times_us.append(time_us)
        new.answered_us.append(answer.answered_at)
        new.probabilities.append(probability)


def _append_labels(new: LabelRows, placed: PlacedLabels, source: Source) -> None:
    """Take over labels; a late one counts as seen when its partition's marker was."""
    accepted, marked_us = placed.accepted, placed.marked_us or 0
    values = accepted.values.get(source.field)
    named = accepted.values.get(source.entity_field) if source.entity_field else None
    if values is None or (source.entity_field and named is None):
        return
    for at, key in enumerate(accepted.keys):
        entity = key if named is None else _cell(named[at])
        if not isinstance(entity, str) or "\0" in entity:
            continue
        value = _cell(values[at])
        text = value.replace("\0", "\ufffd") if isinstance(value, str) else None
        new.sources.append(source.name)
        new.entities.append(entity)
        new.keys.append(key)
        new.revisions.append(accepted.revisions[at])
        new.times_us.append(accepted.event_times[at])
        new.seen_us.append(max(accepted.event_times[at], marked_us))
        new.numbers.append(float(value) if isinstance(value, int | float) else None)
        new.texts.append(text)


def _time_us(answer: Answer, row: int) -> int:
    given = answer.event_times[row]
    return answer.answered_at if given is None else given


def _by_block(rows: Rows) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for row, block in zip(rows.rows, rows.blocks_us, strict=True):
        found[block].append(row)
    return found
