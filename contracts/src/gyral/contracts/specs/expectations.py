"""What a stream's rows must show together: one block of event time at a time."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, StringConstraints, field_validator, model_validator

from gyral.contracts.names import FieldName
from gyral.contracts.specs.document import Duration, SpecModel, duration_seconds
from gyral.contracts.specs.fields import FieldType, StreamField

SHORTEST_S = 60.0
LONGEST_S = 366 * 86_400.0
MOST_DISTINCT = 10_000
"""Most distinct values that are told apart."""
MOST_CATEGORIES = 1_000
"""Most allowed values whose shares are compared."""
Limit = Annotated[int, Field(ge=1, le=2**53)]
Distinct = Annotated[int, Field(ge=1, le=MOST_DISTINCT)]


class Severity(StrEnum):
    """What a block that fails brings about."""

    WARN = "warn"
    """An alert; its rows are used all the same."""
    BLOCK = "block"
    """An alert, and nobody trains on its rows or later ones before a person releases it."""


class _Expectation(SpecModel):
    """What every expectation has."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    severity: Severity = Severity.WARN
    over: Duration = "1h"
    """Length of a block of event time; blocks are counted from 1970-01-01 UTC."""

    @field_validator("over")
    @classmethod
    def _can_be_a_block(cls, over: str) -> str:
        if not SHORTEST_S <= duration_seconds(over) <= LONGEST_S:
            raise ValueError(f"expected 1m to 366d; found {over}")
        return over


class _Between(_Expectation):
    """An expectation with a limit at one end or at both."""

    at_least: Limit | None = None
    at_most: Limit | None = None

    @model_validator(mode="after")
    def _has_limits(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("expected at_least, at_most or both; found none")
        if None not in (self.at_least, self.at_most) and self.at_least > self.at_most:  # type: ignore[operator]
            raise ValueError(
                f"expected at_least <= at_most; found {self.at_least} > {self.at_most}"
            )
        return self


class NullShare(_Expectation):
    """At most this share of a block's rows lacks a value."""

    kind: Literal["null_share"]
    field: FieldName
    at_most: float = Field(ge=0, lt=1)
    min_rows: int = Field(default=1, ge=1, le=10**9)
    """Fewer rows are not judged."""


class DistinctCount(_Between):
    """A block's rows have so many different values."""

    kind: Literal["distinct_count"]
    field: FieldName
    at_least: Distinct | None = None
    at_most: Distinct | None = None


class RowCount(_Between):
    """A block has so many rows."""

    kind: Literal["row_count"]


class Freshness(_Expectation):
    """The newest row lies at most so long before the block's end."""

    kind: Literal["freshness"]
    at_most: Duration


class Distribution(_Expectation):
    """A field's values are spread as they were in the last block that passed."""

    kind: Literal["distribution"]
    field: FieldName
    at_most: float = Field(gt=0, lt=0.8326)
    """Largest Jensen-Shannon distance: 0 where equal, 0.8326 where no value is shared."""
    bins: int = Field(default=10, ge=2, le=100)
    """Into so many equal parts a number's range from minimum to maximum is cut."""
    min_rows: int = Field(default=100, ge=1, le=10**9)
    """Fewer rows are not judged."""


Expectation: TypeAlias = Annotated[
    NullShare | DistinctCount | RowCount | Freshness | Distribution,
    Field(discriminator="kind"),
]


def misfit(expectation: Expectation, fields: Mapping[str, StreamField]) -> str | None:
    """Return why an expectation can never be judged on these fields, or None."""
    if isinstance(expectation, RowCount | Freshness):
        return None
    field = fields.get(expectation.field)
    if field is None:
        return f"field: expected one of the declared fields; found {expectation.field!r}"
    match expectation:
        case NullShare() if not field.nullable:
            return f"field: expected a nullable field; found {expectation.field!r}, never null"
        case DistinctCount() if field.type in (FieldType.NUMBER, FieldType.TIMESTAMP):
            return f"field: expected a string, integer or boolean; found a {field.type}"
        case Distribution():
            return _unbinned(field)
        case _:
            return None


def _unbinned(field: StreamField) -> str | None:
    """Return why there are no bins that stay the same whatever comes, or None."""
    match field.type:
        case FieldType.STRING if field.allowed is None:
            return "field: expected a string with allowed values; found one of any text"
        case FieldType.STRING if len(field.allowed or ()) > MOST_CATEGORIES:
            found = len(field.allowed or ())
            return f"field: expected at most {MOST_CATEGORIES} allowed values; found {found}"
        case FieldType.INTEGER | FieldType.NUMBER:
            if None in (field.minimum, field.maximum) or field.minimum == field.maximum:
                limits = f"{field.minimum} and {field.maximum}"
                return f"field: expected a minimum and a greater maximum; found {limits}"
        case FieldType.TIMESTAMP:
            return "field: expected a string, number, integer or boolean; found a timestamp"
        case _:
            pass
    return None
