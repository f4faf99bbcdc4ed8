"""The upstream system and the application of a replay: sends rows, asks, sets markers."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import orjson

from gyral.client.answers import Accepted, Inferred, Marked, Metadata, Tensor
from gyral.client.calls import Platform
from gyral.client.replay.bodies import Batch, Question, batches, questions
from gyral.client.replay.journal import Journal, SentPrediction
from gyral.client.replay.moments import text
from gyral.client.replay.schedule import Day, Schedule
from gyral.client.replay.source import Source
from gyral.client.replay.variants import Declared, Variant
from gyral.client.rows.bodies import NDJSON, leaving_room
from gyral.modelling.columns import Floats, Ints

ASKERS = 6
"""Prediction requests under way at once."""
_ID_AND_ROW = "-"


@dataclass(slots=True)
class Answers:
    """What each model answered for each row of the file."""

    probability: Mapping[Variant, Floats]
    version: Mapping[Variant, Ints]

    @classmethod
    def none_yet(cls, rows: int, variants: Sequence[Variant]) -> "Answers":
        """Return the answers before any question."""
        return cls(
            {each: np.full(rows, np.nan) for each in variants},
            {each: np.zeros(rows, dtype=np.int64) for each in variants},
        )


@dataclass(slots=True)
class Tally:
    """How much was sent, and for how long anything was being sent."""

    records: int = 0
    predictions: int = 0
    records_s: float = 0.0
    predictions_s: float = 0.0


@dataclass(slots=True)
class Sender:
    """Plays a source's rows against a platform, noting every 2xx."""

    platform: Platform
    source: Source
    declared: Declared
    models: Mapping[Variant, str]
    journal: Journal
    answers: Answers
    tally: Tally = field(default_factory=Tally)
    _inputs: Sequence[Tensor] = ()

    async def bootstrap(self, schedule: Schedule) -> None:
        """Send what is known at the first training, and say that this is all."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send(self._features(schedule.rows)))
            tasks.create_task(self._send(self._labels(schedule.labels)))
        await self.mark_streams(schedule.cutoff_us)

    async def day(self, day: Day) -> None:
        """Send a day's rows, ask about them, and deliver the labels known by its end."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._timed_records(day))
            tasks.create_task(self._ask_all(day.rows))
        self.journal.flush()

    async def mark_streams(self, time_us: int) -> None:
        """Say that everything before this event time was sent, for both streams."""
        async with asyncio.TaskGroup() as tasks:
            for stream in (self.declared.features.name, self.declared.labels.name):
                path = f"/v1/streams/{stream}/watermark"
                tasks.create_task(self._mark("ingestion", path, time_us))

    async def mark_models(self, time_us: int) -> None:
        """Say that no earlier event will be predicted any more, for each model."""
        async with asyncio.TaskGroup() as tasks:
            for model in self.models.values():
                path = f"/v1/models/{model}/watermark"
                tasks.create_task(self._mark("gateway", path, time_us))

    async def _mark(self, service: str, path: str, time_us: int) -> None:
        body = orjson.dumps({"event_time": text(time_us)})
        await self.platform[service].post(path, body, Marked)

    async def _timed_records(self, day: Day) -> None:
        began = perf_counter()
        await self._send(self._features(day.rows))
        await self._send(self._labels(day.labels))
        self.tally.records_s += perf_counter() - began

    def _features(self, rows: slice) -> Iterator[Batch]:
        source = self.source
        return batches(self.declared.features.name, source.features, source.keys, rows)

    def _labels(self, rows: Ints) -> Iterator[Batch]:
        source = self.source
        return batches(self.declared.labels.name, source.labels, source.keys, rows)

    async def _send(self, prepared: Iterator[Batch]) -> None:
        """Send batches one after another: their order is that of event time."""
        async for batch in leaving_room(prepared):
            accepted = await self.platform["ingestion"].post(
                f"/v1/streams/{batch.stream}/records",
                batch.body,
                Accepted,
                content_type=NDJSON,
                idempotency_key=batch.idempotency_key,
            )
            self.journal.records(
                batch.stream, accepted.ids.first, accepted.ids.last, batch.keys
            )
            self.tally.records += accepted.accepted

    async def _ask_all(self, rows: slice) -> None:
        if rows.start == rows.stop:
            return
        began = perf_counter()
        if not self._inputs:
            self._inputs = await self._metadata()
        source = self.source
        asked = questions(self._inputs, source.features, source.keys, source.times_us, rows)
        work = iter((question, variant) for question in asked for variant in self.models)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(ASKERS):
                tasks.create_task(self._asker(work))
        self.tally.predictions_s += perf_counter() - began

    async def _metadata(self) -> Sequence[Tensor]:
        model = self.models[Variant.LOOP]
        found = await self.platform["gateway"].get(f"/v2/models/{model}", Metadata)
        return found.inputs

    async def _asker(self, work: Iterator[tuple[Question, Variant]]) -> None:
        for question, variant in work:
            await self._ask(question, variant)

    async def _ask(self, question: Question, variant: Variant) -> None:
        model, rows = self.models[variant], question.rows
        answer = await self.platform["gateway"].post(
            f"/v2/models/{model}/infer", question.body, Inferred
        )
        probabilities = [float(each) for each in answer.output("probability")]
        request_id = str(answer.output("prediction_id")[0]).rpartition(_ID_AND_ROW)[0]
        version = int(answer.model_version)
        self.journal.prediction(
            SentPrediction(
                model, version, request_id, self.source.keys[rows].tolist(), probabilities
            )
        )
        self.answers.probability[variant][rows] = probabilities
        self.answers.version[variant][rows] = version
        self.tally.predictions += len(probabilities)
