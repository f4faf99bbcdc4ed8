"""Logged predictions: each answer into its model's table, once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gyral.contracts.data import StreamDeclared
from gyral.contracts.specs.stream import StreamField
from gyral.contracts.versions import ModelDeclared
from gyral.kit.dataplane import Batch
from gyral.kit.projection import Projection
from gyral.validation.domain.accounting import Duplicate, Marked, Quarantined
from gyral.validation.domain.refusals import Reason, Violation, overtaken, shown
from gyral.validation.engine.answers import Placed, misfit, read_answer, table
from gyral.validation.engine.lake import Lake, LakeMovedError
from gyral.validation.engine.measures import Outcomes
from gyral.validation.engine.reading import Span
from gyral.validation.engine.refusing import marker_of, place_of, refuse
from gyral.validation.handlers.records import publish_refusals
from gyral.validation.store.lookups import Lookups
from gyral.validation.store.sinks import SinkTx

_TRIES = 5


@dataclass(slots=True)
class _Found:
    """A batch of predictions, taken apart."""

    answers: dict[str, list[Placed]] = field(default_factory=dict)
    markers: list[Marked] = field(default_factory=list)
    refused: list[Quarantined] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Predictions:
    """The sink of logged predictions."""

    models: Projection[ModelDeclared]
    streams: Projection[StreamDeclared]
    lookups: Lookups
    lake: Lake
    outcomes: Outcomes
    crash: Callable[[str], None]

    async def batch(self, batch: Batch[SinkTx]) -> None:
        """Give every record of a batch its one place; redone after a crash, nothing doubles."""
        for attempt in range(1, _TRIES + 1):
            try:
                return await self._settle(batch)
            except LakeMovedError:
                if attempt == _TRIES:
                    raise
        return None

    async def _settle(self, batch: Batch[SinkTx]) -> None:
        found = _take_apart(batch)
        if any(self._fields(model) is None for model in found.answers):
            await self.models.refresh()
            await self.streams.refresh()
        seen = await self.lookups.predictions(
            [one.answer.request_id for answers in found.answers.values() for one in answers]
        )
        accepted: set[tuple[str, str]] = set()
        for model, answers in sorted(found.answers.items()):
            accepted |= await self._write(model, answers, found, seen)
        self.crash("after_predictions_lake")
        async with batch.commit() as tx:
            await tx.quarantine(found.refused)
            await tx.count_duplicates(found.duplicates)
            await tx.count_markers(found.markers)
            await tx.remember_predictions(sorted(accepted))
            await publish_refusals(tx, found.refused)
        self.outcomes.refused(found.refused)

    async def _write(
        self, model: str, answers: list[Placed], found: _Found, seen: set[tuple[str, str]]
    ) -> set[tuple[str, str]]:
        """Append what the table lacks and return the identities it now has of this batch."""
        name = f"predictions-{model}"
        declared = self._fields(model)
        if declared is None:
            detail = f"model: expected a declared model and its stream; found {shown(model)}"
            wrong = Violation(Reason.UNKNOWN_MODEL, detail)
            found.refused += [refuse(one.record, wrong, stream=name) for one in answers]
            return set()
        spans = _spans(answers)
        there = await self.lake.survey(name, spans)
        landed = there.landed
        accepted: set[tuple[str, str]] = set()
        fresh = []
        for one in sorted(answers, key=lambda one: _place(one) not in landed):
            identity = one.answer.identity
            wrong_type = misfit(one.answer, declared)
            if _place(one) in landed:
                accepted.add(identity)
            elif identity in seen or identity in accepted:
                found.duplicates.append(
                    Duplicate(place_of(one.record), name, f"{identity[0]}/{identity[1]}")
                )
            elif wrong_type is not None:
                found.refused.append(refuse(one.record, wrong_type, stream=name))
            elif one.record.offset <= there.decided.get(one.record.partition, -1):
                wrong = overtaken(one.record.offset)
                found.refused.append(refuse(one.record, wrong, stream=name))
            else:
                accepted.add(identity)
                fresh.append(one)
        if fresh:
            fresh.sort(key=_place)
            features = sorted({feature for one in fresh for feature in one.answer.features})
            await self.lake.append(name, table(fresh, declared, features), spans)
        else:
            await self.lake.settle(name, table([], declared, []).schema, spans)
        return accepted

    def _fields(self, model: str) -> Mapping[str, StreamField] | None:
        """Return the fields a model's features come from."""
        declared = self.models.get(model)
        stream = declared and self.streams.get(declared.spec.spec.features.stream)
        return stream.spec.spec.fields if stream else None


def _take_apart(batch: Batch[SinkTx]) -> _Found:
    found = _Found()
    for part in batch.slices:
        for record in part.records:
            marker = marker_of(record)
            if isinstance(marker, Marked):
                found.markers.append(marker)
                continue
            if marker is not None:
                found.refused.append(marker)
                continue
            answer = read_answer(record)
            if isinstance(answer, Violation):
                found.refused.append(refuse(record, answer, stream="predictions"))
            else:
                found.answers.setdefault(answer.answer.model, []).append(answer)
    return found


def _place(one: Placed) -> tuple[int, int, int]:
    return one.record.partition, one.record.offset, 0


def _spans(answers: list[Placed]) -> list[Span]:
    bounds: dict[tuple[str, int], list[int]] = {}
    for one in answers:
        record = one.record
        place = (record.topic, record.partition)
        bounds.setdefault(place, [record.offset, record.offset])[1] = record.offset
    return [Span(*place, first, last) for place, (first, last) in sorted(bounds.items())]
