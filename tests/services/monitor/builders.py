"""A model with its streams, its profile, and a log of some weeks in which it goes wrong."""

import json
import uuid
from dataclasses import dataclass
from functools import cache
from typing import cast

import numpy as np

from gyral.contracts.data import LabelsAccepted, StreamDeclared, WatermarkAdvanced
from gyral.contracts.inference import PredictionLogged
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.specs.stream import StreamSpec
from gyral.contracts.versions import ModelDeclared
from gyral.kit.batches import Batch, Slice
from gyral.kit.changes import Changes
from gyral.kit.projection import Projection
from gyral.modelling.blocks import block_ids
from gyral.modelling.features import FeatureKind, FeatureSpec
from gyral.modelling.profile import SCORE, BlockHistograms, ReferenceProfile, block_losses
from gyral.monitor.domain.champions import Champion
from gyral.monitor.domain.watches import Watch, to_datetime
from gyral.monitor.handlers.closing import Closing
from gyral.monitor.handlers.observing import Observing
from gyral.monitor.store.champions import Profiles
from gyral.monitor.store.specs import Specs

DAY_US = 86_400_000_000
START_US = 15_765 * DAY_US
PREDICTIONS = PredictionLogged.topic.name
LABELS = LabelsAccepted.topic.name
MARKER = WatermarkAdvanced.topic.name
FEATURES = [FeatureSpec("x", FeatureKind.NUMERIC), FeatureSpec("c", FeatureKind.CATEGORICAL)]
TRIGGERS = ({"excess_loss": {"above": 0.05, "window": 4}}, {"cusum": {"k": 0.5, "h": 5.0}})


def a_stream(name="flights", clock="event"):
    fields = {
        "id": {"type": "string"},
        "at": {"type": "timestamp"},
        "x": {"type": "number"},
        "c": {"type": "string"},
        "delay": {"type": "number"},
    }
    body = {"key": "id", "event_time": "at", "clock": clock, "fields": fields}
    return StreamSpec.model_validate(
        {"apiVersion": "gyral/v1", "kind": "Stream", "metadata": {"name": name}, "spec": body}
    )


def a_model(name="delays", triggers=TRIGGERS, streams=("flights", "arrivals"), **changes):
    body = {
        "task": "binary-classification",
        "features": {"stream": streams[0], "fields": ["x", "c"]},
        "label": {"stream": streams[1], "key": "id", "positive": "delay > 15"},
        "train": {"trainer": "sklearn.hist_gradient_boosting"},
        "triggers": {"anyOf": triggers},
        "monitor": {"min_rows": 5},
    }
    return ModelSpec.model_validate(
        {
            "apiVersion": "gyral/v1",
            "kind": "Model",
            "metadata": {"name": name},
            "spec": body | changes,
        }
    )


def a_watch(triggers=TRIGGERS, **changes):
    return Watch.of(a_model(triggers=triggers, **changes), 1, a_stream(), a_stream("arrivals"))


class Declared:
    """What a projection knows, told by the test."""

    def __init__(self, *events):
        self.events = {event.key: event for event in events}

    def get(self, key):
        return self.events.get(key)

    def values(self):
        return tuple(self.events.values())

    async def refresh(self):
        return None

    def ready(self):
        return None


def specs(*models, clock="event"):
    streams = [a_stream("flights", clock), a_stream("arrivals", clock)]
    declared = Declared(*(ModelDeclared(name=it.name, generation=1, spec=it) for it in models))
    known = Declared(*(StreamDeclared(name=it.name, generation=1, spec=it) for it in streams))
    return Specs(
        cast("Projection[ModelDeclared]", declared), cast("Projection[StreamDeclared]", known)
    )


@cache
def a_profile(model="delays"):
    """Reference of thirty days before the log begins, thirty rows each."""
    rng = np.random.default_rng(7)
    times = np.repeat(np.arange(30), 30) * DAY_US + START_US - 30 * DAY_US
    ids = block_ids(times, DAY_US)
    columns = {
        "x": rng.normal(size=len(ids)),
        "c": np.array(["a", "b", None], dtype=object)[rng.integers(0, 3, len(ids))],
    }
    scores = rng.uniform(0.1, 0.9, len(ids))
    return ReferenceProfile(
        model=model,
        run_id="run-1",
        cutoff_us=START_US,
        block_us=DAY_US,
        features=BlockHistograms.measure(columns, FEATURES, ids, DAY_US, rng),
        scores=BlockHistograms.measure({"score": scores}, [SCORE], ids, DAY_US, rng),
        block_losses=block_losses(ids, DAY_US, rng.random(len(ids)) < scores, scores),
        seed=7,
    )


@dataclass(frozen=True)
class Record:
    """A Kafka record."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    type: str

    @property
    def headers(self):
        return [("ce_type", self.type.encode())]


def an_answer(
    number, day, *, rows=1, model="delays", version=1, role="live", seed=0, **changes
):
    rng = np.random.default_rng([number, day, seed])
    answer = {
        "request_id": str(uuid.UUID(int=day * 100_000 + number)),
        "model": model,
        "version": version,
        "role": role,
        "epoch": 1,
        "answered_at": START_US + 400 * DAY_US + number,
        "latency_us": 900,
        "entity_keys": [f"{day}-{number}-{row}" for row in range(rows)],
        "event_times": [START_US + day * DAY_US + 1000 * number + row for row in range(rows)],
        "features": {
            "x": rng.normal(size=rows).tolist(),
            "c": [["a", "b", None][at] for at in rng.integers(0, 3, rows)],
        },
        "probabilities": rng.uniform(0.1, 0.9, rows).tolist(),
    }
    return answer | changes


def labels_of(answers, *, wrong=False, stream="arrivals", after_us=3600 * 1_000_000):
    """Let come true what was predicted, by chance as likely as predicted, or as unlikely."""
    keys, times, delays = [], [], []
    for answer in answers:
        rows = zip(
            answer["entity_keys"], answer["event_times"], answer["probabilities"], strict=True
        )
        for key, time_us, probability in rows:
            chance = np.random.default_rng([*map(ord, key)]).random()
            late = chance < (1 - probability if wrong else probability)
            keys.append(key)
            times.append(time_us + after_us)
            delays.append(60.0 if late else 0.0)
    return {
        "stream": stream,
        "keys": keys,
        "event_times": times,
        "revisions": [0] * len(keys),
        "values": {"id": keys, "delay": delays},
    }


class Log:
    """Both topics, three partitions each, written as gateway and validation write them."""

    def __init__(self):
        self.partitions: dict[tuple[str, int], list[Record]] = {
            (topic, number): [] for topic in (PREDICTIONS, LABELS) for number in range(3)
        }

    def add(self, place, value, type_=None):
        topic, partition = place
        records = self.partitions[topic, partition]
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        records.append(Record(topic, partition, len(records), raw, type_ or topic))

    def mark(self, topic, subject, time_us):
        value = {"subject": subject, "event_time": to_datetime(time_us).isoformat()}
        for partition in range(3):
            self.add((topic, partition), value, MARKER)

    def day(self, day, answers, labels, *, model="delays"):
        """Write one day: its answers, the marker behind them, the labels, theirs."""
        for number, answer in enumerate(answers):
            self.add((PREDICTIONS, number % 3), answer)
        self.add((LABELS, day % 3), labels)
        self.mark(PREDICTIONS, model, START_US + (day + 1) * DAY_US)
        self.mark(LABELS, labels["stream"], START_US + (day + 1) * DAY_US)


def a_log(days=12, wrong_from=5, *, model="delays", stream="arrivals"):
    """A model that is right for some days and then as wrong as can be."""
    log = Log()
    for day in range(days):
        answers = [an_answer(number, day, rows=5, model=model) for number in range(8)]
        labels = labels_of(answers, wrong=day >= wrong_from, stream=stream)
        log.day(day, answers, labels, model=model)
    return log


class Monitor:
    """The handlers with their database, fed as the data plane would."""

    def __init__(self, pool, opened, known):
        self.pool, self.opened, self.known = pool, opened, known
        profiles = Profiles()
        closing = Closing(known, profiles, 90 * DAY_US)
        self.observing = Observing(opened, known, profiles, closing, Changes())

    async def crown(self, model="delays", *, generation=1, version=1, as_of_us=START_US):
        champion = Champion(generation, version, as_of_us)
        async with self.opened() as tx:
            await tx.add_champion(model, champion, a_profile().to_json())

    def redeclare(self, generation, **changes):
        """Have the projection know another generation of the model."""
        spec = a_model(**changes)
        events = cast("Declared", self.known.models).events
        events[spec.name] = ModelDeclared(name=spec.name, generation=generation, spec=spec)

    async def deliver(self, *records):
        """Hand over consecutive records of some partitions as one batch."""
        slices = []
        for place in sorted({(it.topic, it.partition) for it in records}):
            part = tuple(it for it in records if (it.topic, it.partition) == place)
            first = await self.pool.fetchval(
                "SELECT next_offset FROM sink_offset WHERE topic = $1 AND partition = $2",
                *place,
            )
            slices.append(Slice(*place, part, first))
        await self.observing.predictions_and_labels(
            Batch(tuple(slices), "monitor", self.opened)
        )

    async def read(self, log):
        """Deliver a whole log as one batch."""
        await self.deliver(*(it for records in log.partitions.values() for it in records))

    async def outcome(self):
        """Return everything that was decided, in order."""
        async with self.opened() as tx:
            return (
                await tx.windows("delays", -1, 1000),
                await tx.requests("delays", -1, 1000),
                await tx.alarms("delays", None, 1000),
            )

    async def published(self, event_type):
        rows = await self.pool.fetch(
            "SELECT value FROM outbox WHERE topic = $1 ORDER BY seq", event_type.topic.name
        )
        return [event_type.model_validate_json(row["value"]) for row in rows]
