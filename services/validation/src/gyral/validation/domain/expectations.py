"""What is expected of a stream's blocks, and what of their rows has to be counted for it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np

from gyral.contracts.specs.document import duration_seconds
from gyral.contracts.specs.expectations import (
    DistinctCount,
    Distribution,
    Expectation,
    Freshness,
    NullShare,
    RowCount,
    Severity,
)
from gyral.contracts.specs.fields import FieldType, StreamField
from gyral.contracts.specs.stream import StreamBody
from gyral.modelling.histograms import CategoryBins, NumericBins

Bins: TypeAlias = NumericBins | CategoryBins
_BETWEEN = (0.5,)
"""The one edge between false and true."""


class Kind(StrEnum):
    """What is counted."""

    NULL_SHARE = "null_share"
    DISTINCT_COUNT = "distinct_count"
    ROW_COUNT = "row_count"
    FRESHNESS = "freshness"
    DISTRIBUTION = "distribution"

    @property
    def judges_empty_blocks(self) -> bool:
        """Tell whether a block without any row says something."""
        return self in (Kind.ROW_COUNT, Kind.FRESHNESS)


@dataclass(frozen=True, slots=True)
class Measure:
    """What is counted of a block; two expectations that count the same share it."""

    kind: Kind
    over_us: int
    field: str | None = None
    most: int = 0
    """Distinct values that are told apart."""
    bins: Bins | None = None

    @property
    def id(self) -> str:
        """What its counts are kept under: another way of counting has another."""
        return f"{self.kind}/{self.over_us}/{self.field or ''}/{self.most}/{_digest(self.bins)}"

    def start_from(self, at_us: int) -> int:
        """Return the start of the first block that begins at a moment or later."""
        return -(-at_us // self.over_us) * self.over_us

    def start_of(self, at_us: int) -> int:
        """Return the start of the block a moment lies in."""
        return at_us // self.over_us * self.over_us


@dataclass(frozen=True, slots=True)
class Watched:
    """One expectation, ready to be judged."""

    name: str
    measure: Measure
    severity: Severity
    at_least: float | None = None
    at_most: float | None = None
    min_rows: int = 1

    @property
    def limit(self) -> str:
        """What is expected, in words."""
        bounds = [
            f"at {end} {value:g}"
            for end, value in (("least", self.at_least), ("most", self.at_most))
            if value is not None
        ]
        return f"{' and '.join(bounds)} {_NOUN[self.measure.kind](self.measure.field)}"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a generation of a stream's declaration expects."""

    generation: int
    watched: tuple[Watched, ...] = ()

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What is to be counted, each once."""
        return tuple({one.measure.id: one.measure for one in self.watched}.values())


def expected_of(body: StreamBody, generation: int) -> Expected:
    """Return what a declaration expects."""
    watched = tuple(_watched(one, body.fields) for one in body.expectations)
    return Expected(generation, watched)


def _watched(declared: Expectation, fields: Mapping[str, StreamField]) -> Watched:
    over_us = _micros(declared.over)
    name, severity = declared.name, declared.severity
    match declared:
        case NullShare():
            measure = Measure(Kind.NULL_SHARE, over_us, declared.field)
            at_most, rows = declared.at_most, declared.min_rows
            return Watched(name, measure, severity, at_most=at_most, min_rows=rows)
        case DistinctCount():
            most = max(declared.at_least or 0, (declared.at_most or 0) + 1)
            measure = Measure(Kind.DISTINCT_COUNT, over_us, declared.field, most)
            return Watched(name, measure, severity, declared.at_least, declared.at_most)
        case RowCount():
            measure = Measure(Kind.ROW_COUNT, over_us)
            return Watched(
                name, measure, severity, declared.at_least, declared.at_most, min_rows=0
            )
        case Freshness():
            measure = Measure(Kind.FRESHNESS, over_us)
            seconds = duration_seconds(declared.at_most)
            return Watched(name, measure, severity, at_most=seconds, min_rows=0)
        case Distribution():
            bins = _bins(declared, fields[declared.field])
            measure = Measure(Kind.DISTRIBUTION, over_us, declared.field, bins=bins)
            at_most, rows = declared.at_most, declared.min_rows
            return Watched(name, measure, severity, at_most=at_most, min_rows=rows)


def _bins(declared: Distribution, field: StreamField) -> Bins:
    """Cut what a field may be into bins that no row can move."""
    if field.allowed is not None:
        return CategoryBins(declared.field, field.allowed)
    if field.type is FieldType.BOOLEAN:
        return NumericBins(declared.field, _BETWEEN)
    low, high = field.minimum or 0.0, field.maximum or 0.0
    share = np.arange(1, declared.bins) / declared.bins
    # Not low + (high - low) * share, whose difference may be infinite.
    edges = low * (1.0 - share) + high * share
    return NumericBins(declared.field, tuple(np.unique(edges).tolist()))


def _digest(bins: Bins | None) -> str:
    cut = "" if bins is None else repr(bins)
    return hashlib.sha256(cut.encode()).hexdigest()[:16] if cut else ""


def _micros(duration: str) -> int:
    return round(duration_seconds(duration) * 1e6)


_NOUN: Mapping[Kind, Callable[[str | None], str]] = {
    Kind.NULL_SHARE: lambda field: f"of the rows without {field}",
    Kind.DISTINCT_COUNT: lambda field: f"distinct values of {field}",
    Kind.ROW_COUNT: lambda _field: "rows",
    Kind.FRESHNESS: lambda _field: "s from the newest row to the block's end",
    Kind.DISTRIBUTION: lambda field: f"distance of {field} from the last good block",
}
