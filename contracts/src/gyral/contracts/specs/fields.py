"""The fields of a stream: their types, and what one value may be."""

import operator
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from gyral.contracts.specs.document import SpecModel


class FieldType(StrEnum):
    """Types a field of a stream may have, and their Arrow types in the lake."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    """RFC 3339 text with an offset on the way in; microseconds UTC in the lake."""


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
    personal: bool = Field(default=False, exclude_if=operator.not_)
    """Replaced by a pseudonym before it is stored anywhere; `max_length` is of what is sent."""

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

    @model_validator(mode="after")
    def _personal_is_any_text(self) -> Self:
        """Behind the door nobody sees what was sent, so nothing could be held against it."""
        if self.personal and self.type is not FieldType.STRING:
            raise ValueError(f"personal: expected a string field; found type {self.type}")
        if self.personal and (self.allowed or self.pattern):
            raise ValueError(
                "personal: expected a field without allowed values or a pattern; found them"
            )
        return self
