"""The two logs the monitor reads, taken apart in the order of their partitions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from gyral.contracts.data import WatermarkAdvanced
from gyral.contracts.inference import PredictionLogged, Role
from gyral.kit.batches import Slice, is_marker
from gyral.kit.cloudevents import Record
from gyral.kit.telemetry import get_log
from gyral.monitor.domain.watches import to_micros

log = get_log()
Cell = float | int | bool | str | None
MicrosUtc = Annotated[int, Meta(ge=0, lt=2**62)]
Text = Annotated[str, Meta(min_length=1, max_length=256)]
Watermarks = dict[tuple[str, str, int], int]
"""By topic, subject and partition."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What the monitor needs of a logged prediction; features stay undecoded until counted."""

    request_id: UUID
    model: str
    version: Annotated[int, Meta(ge=1, lt=2**31)]
    role: Role
    answered_at: MicrosUtc
    entity_keys: list[str | None]
    event_times: list[MicrosUtc | None]
    features: msgspec.Raw
    probabilities: list[Annotated[float, Meta(ge=0, le=1)] | None]

    def __post_init__(self) -> None:
        rows = len(self.probabilities)
        if not len(self.entity_keys) == len(self.event_times) == rows:
            raise ValueError(f"expected {rows} rows in every column; found another number")
        if any(entity and "\0" in entity for entity in self.entity_keys):
            raise ValueError("entity_keys: expected text; found a NUL character")


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """Labels as `validation` accepted them."""

    stream: str
    keys: list[Text]
    event_times: list[MicrosUtc]
    revisions: list[Annotated[int, Meta(ge=-(2**62), lt=2**62)]]
    values: dict[str, list[msgspec.Raw]]

    def __post_init__(self) -> None:
        rows = len(self.keys)
        lengths = {len(self.event_times), len(self.revisions), *map(len, self.values.values())}
        if lengths != {rows}:
            raise ValueError(f"expected {rows} rows in every column; found {sorted(lengths)}")
        if any("\0" in key for key in self.keys):
            raise ValueError("keys: expected text; found a NUL character")


@dataclass(frozen=True, slots=True)
class Placed:
    """An answer, and how far its own partition's markers had come before it."""

    answer: Answer
    marked_us: int | None


@dataclass(frozen=True, slots=True)
class PlacedLabels:
    """Labels, and how far their own partition's markers had come before them."""

    accepted: Accepted
    marked_us: int | None


@dataclass(slots=True)
class Reading:
    """A batch, read: what is late depends on a partition's order, never on how it was cut."""

    watermarks: Watermarks
    """Where the markers stand after the batch; begun with where they stood before it."""
    answers: list[Placed] = field(default_factory=list)
    labels: list[PlacedLabels] = field(default_factory=list)
    marked: set[tuple[str, str]] = field(default_factory=set)
    """Topics and subjects whose time advanced."""


def read(slices: Sequence[Slice], watermarks: Watermarks) -> Reading:
    """Take slices of both logs apart; what is malformed is skipped: `validation` keeps it."""
    reading = Reading(dict(watermarks))
    answer = msgspec.json.Decoder(Answer).decode
    accepted = msgspec.json.Decoder(Accepted).decode
    for part in slices:
        for record in part.records:
            if record.value is None:
                continue
            try:
                if is_marker(record):
                    _mark(reading, record)
                elif part.topic == PredictionLogged.topic.name:
                    _answer(reading, record, answer(record.value))
                else:
                    _label(reading, record, accepted(record.value))
            except ValueError:  # of msgspec and of pydantic alike
                log.warning(
                    "record.malformed",
                    topic=part.topic,
                    partition=part.partition,
                    offset=record.offset,
                )
    return reading


def _mark(reading: Reading, record: Record) -> None:
    told = WatermarkAdvanced.model_validate_json(record.value or b"", extra="ignore")
    place = (record.topic, told.subject, record.partition)
    time_us = to_micros(told.event_time)
    if time_us > reading.watermarks.get(place, -1):
        reading.watermarks[place] = time_us
        reading.marked.add((record.topic, told.subject))


def _answer(reading: Reading, record: Record, answer: Answer) -> None:
    if answer.role is Role.LIVE:
        place = (record.topic, answer.model, record.partition)
        reading.answers.append(Placed(answer, reading.watermarks.get(place)))


def _label(reading: Reading, record: Record, accepted: Accepted) -> None:
    place = (record.topic, accepted.stream, record.partition)
    reading.labels.append(PlacedLabels(accepted, reading.watermarks.get(place)))
