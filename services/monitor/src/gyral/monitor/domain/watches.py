"""How one model is watched, taken from its spec once and used everywhere."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from gyral.contracts.specs.document import duration_seconds
from gyral.contracts.specs.model import ModelSpec, Trigger
from gyral.contracts.specs.stream import Clock, StreamSpec
from gyral.modelling.labels import LabelRule

_MICROS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Source:
    """Where labels come from: a stream, its field with the entity, and the one that decides.

    Models that agree on all three share their stored labels.
    """

    stream: str
    entity_field: str | None
    """None: the stream's own key."""
    field: str

    @property
    def name(self) -> str:
        """The source in one word, as the store knows it."""
        return f"{self.stream}/{self.entity_field or ''}/{self.field}"


@dataclass(frozen=True, slots=True)
class Watch:
    """Everything of a model's spec that the monitor goes by; lengths in microseconds."""

    model: str
    generation: int
    block_us: int
    horizon_us: int
    min_rows: int
    source: Source
    rule: LabelRule
    triggers: tuple[Trigger, ...]
    wall_lateness_us: int | None
    """Lateness of predictions when their time is the wall clock's; None on the event clock."""
    label_wall_lateness_us: int | None
    """The same of the label stream."""

    @classmethod
    def of(cls, spec: ModelSpec, generation: int, rows: StreamSpec, labels: StreamSpec) -> Self:
        """Take a watch from a model's spec and those of its two streams.

        Raises:
            ValueError: the positive expression is outside its grammar.
        """
        body = spec.spec
        own_key = body.label.key == labels.spec.key
        return cls(
            model=spec.name,
            generation=generation,
            block_us=max(1, micros(body.monitor.block)),
            horizon_us=micros(body.label.horizon),
            min_rows=body.monitor.min_rows,
            source=Source(
                body.label.stream, None if own_key else body.label.key, body.positive_field
            ),
            rule=LabelRule.parse(body.label.positive),
            triggers=body.triggers.anyOf,
            wall_lateness_us=_wall_lateness_us(rows),
            label_wall_lateness_us=_wall_lateness_us(labels),
        )

    def floor(self, time_us: int) -> int:
        """Return the start of the block that a moment lies in."""
        return time_us // self.block_us * self.block_us

    def window(self, block_start_us: int, closed_until_us: int | None) -> tuple[int, int]:
        """Return from when to when a block is measured.

        No moment is measured twice: when the block's length has changed, the first new window
        begins where the last one ended and is cut short by its boundary.

        Args:
            block_start_us: a multiple of the block's length.
            closed_until_us: end of the last window, of whatever length; None before the first.
        """
        end_us = block_start_us + self.block_us
        return max(block_start_us, closed_until_us or block_start_us), end_us

    def closable_until(self, predicted_us: int | None, labelled_us: int | None) -> int | None:
        """Return the end of the last block that may close, or None when a watermark is unknown.

        A block closes when predictions reached its end and labels its end plus the horizon.
        """
        if predicted_us is None or labelled_us is None:
            return None
        return self.floor(min(predicted_us, labelled_us - self.horizon_us))


def micros(duration: str) -> int:
    """Return a spec's duration in microseconds."""
    return round(duration_seconds(duration) * _MICROS)


def to_micros(moment: datetime) -> int:
    """Return microseconds since 1970 UTC, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def to_datetime(time_us: int) -> datetime:
    """Return the moment that many microseconds after 1970 UTC."""
    return _EPOCH + timedelta(microseconds=time_us)


def _wall_lateness_us(stream: StreamSpec) -> int | None:
    if stream.spec.clock is Clock.EVENT:
        return None
    return micros(stream.spec.lateness)
