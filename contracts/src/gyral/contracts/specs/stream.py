"""A stream: rows with declared fields, a key and a time of their own."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from gyral.contracts.names import FieldName, StreamName
from gyral.contracts.specs.document import Duration, Metadata, SpecModel
from gyral.contracts.specs.expectations import Expectation, misfit
from gyral.contracts.specs.fields import FieldType, StreamField

__all__ = ["Clock", "Duration", "FieldType", "StreamBody", "StreamField", "StreamSpec"]


class Clock(StrEnum):
    """What moves a stream's watermark when no row comes."""

    WALL = "wall"
    EVENT = "event"


def _is_none(value: object) -> bool:
    return value is None


class StreamBody(SpecModel):
    """The declaration proper."""

    key: FieldName
    """Field that identifies a row within the stream."""
    event_time: FieldName
    """Timestamp field: when the row became true (for labels: known)."""
    clock: Clock = Clock.WALL
    lateness: Duration = "0s"
    dedupe: Duration = "7d"
    """Event time for which a row's identity is remembered."""
    retention: Duration | None = None
    """Event time behind the watermark after which rows are dropped; None: kept for ever."""
    fields: dict[FieldName, StreamField] = Field(min_length=1, max_length=500)
    expectations: tuple[Expectation, ...] = Field(default=(), max_length=50)
    """What the rows of each block of event time must show together."""
    subject: FieldName | None = Field(default=None, exclude_if=_is_none)
    """Personal field that says whose each row is; None: no field is personal."""

    @model_validator(mode="after")
    def _key_and_time_are_fields(self) -> Self:
        for role, name, kinds in (
            ("key", self.key, {FieldType.STRING}),
            ("event_time", self.event_time, {FieldType.TIMESTAMP}),
        ):
            field = self.fields.get(name)
            if field is None:
                raise ValueError(f"{role}: expected one of the declared fields; found {name!r}")
            if field.type not in kinds or field.nullable:
                wanted = " or ".join(sorted(kinds))
                raise ValueError(
                    f"{role}: expected a {wanted} field that is not nullable; found {name!r}"
                )
        return self

    @model_validator(mode="after")
    def _rows_of_people_have_a_subject(self) -> Self:
        if self.subject is None:
            if self.personal:
                raise ValueError(
                    "subject: expected the personal field that says whose a row is, so that it "
                    f"can be erased; found none beside {self.personal[0]!r}"
                )
            return self
        field = self.fields.get(self.subject)
        if field is None or not field.personal or field.nullable:
            raise ValueError(
                "subject: expected a personal field that is not nullable; "
                f"found {self.subject!r}"
            )
        return self

    @property
    def personal(self) -> tuple[FieldName, ...]:
        """The personal fields; only a stream with a subject has any."""
        return tuple(name for name, field in self.fields.items() if field.personal)

    @model_validator(mode="after")
    def _expectations_can_be_judged(self) -> Self:
        names = set()
        for expectation in self.expectations:
            problem = misfit(expectation, self.fields)
            if expectation.name in names:
                problem = "expected a name of its own; found it twice"
            if problem is not None:
                raise ValueError(f"expectations.{expectation.name}: {problem}")
            names.add(expectation.name)
        return self


class StreamSpec(SpecModel):
    """A stream document, as `gyral apply -f` sends it."""

    apiVersion: str = Field(pattern=r"^gyral/v1$")  # noqa: N815 - the field's standard spelling
    kind: str = Field(pattern=r"^Stream$")
    metadata: Metadata
    spec: StreamBody

    @property
    def name(self) -> StreamName:
        """The stream's name."""
        return self.metadata.name
