"""A stream: rows with declared fields, a key and a time of their own."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from gyral.contracts.names import FieldName, StreamName
from gyral.contracts.specs.document import Metadata, SpecModel, duration_seconds


class FieldType(StrEnum):
    """Types a field of a stream may have, and their Arrow types in the lake."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    """RFC 3339 text with an offset on the way in; microseconds UTC in the lake."""


def _checked_duration(text: str) -> str:
    duration_seconds(text)
    return text


Duration = Annotated[
    str,
    StringConstraints(pattern=r"^(0|[1-9][0-9]{0,8})(us|ms|s|m|h|d|w)$"),
    AfterValidator(_checked_duration),
]
"""A whole number and a unit: `90s`, `24h`, `14d`."""


class StreamField(SpecModel):
    """One column of a stream."""

    type: FieldType
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=10_000)
    pattern: str | None = Field(default=None, max_length=200)
    max_length: int = Field(default=256, ge=1, le=65_536)
    """Longest text, in characters."""
    unit: str | None = Field(default=None, max_length=40)
    description: str | None = Field(default=None, max_length=500)

    @model_validator(mode="after")
    def _limits_fit_the_type(self) -> Self:
        numeric = self.type in (FieldType.INTEGER, FieldType.NUMBER)
        if not numeric and (self.minimum is not None or self.maximum is not None):
            raise ValueError(
                f"minimum and maximum need a numeric field; found type {self.type}"
            )
        if self.type is not FieldType.STRING and (self.allowed or self.pattern):
            raise ValueError(f"allowed and pattern need a string field; found type {self.type}")
        if (
            self.minimum is not None
            and self.maximum is not None
            and self.minimum > self.maximum
        ):
            raise ValueError(
                f"expected minimum <= maximum; found {self.minimum} > {self.maximum}"
            )
        return self


class Clock(StrEnum):
    """What moves a stream's watermark when no row comes."""

    WALL = "wall"
    EVENT = "event"


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
