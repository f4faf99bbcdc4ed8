"""A batch taken apart ahead of its turn: all of its judgement that its records alone decide."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gyral.kit.cloudevents import Record
from gyral.kit.dataplane import Slice
from gyral.validation.domain.accounting import Quarantined
from gyral.validation.domain.refusals import Violation
from gyral.validation.engine.columns import Columns, columns_of
from gyral.validation.engine.groups import Group
from gyral.validation.engine.intake import Sorted, Sorting
from gyral.validation.engine.schema import Schema
from gyral.validation.engine.schemas import Schemas

_ROWS = 2000
"""Rows that are worked on in one go: few enough to stay in the processor's cache, and for
whatever else the process does to get its turn."""
_BYTES = 1 << 20
"""The same, where a record holds more than a row."""


@dataclass(frozen=True, slots=True)
class Part:
    """One stream's rows and the columns of those that a lake can hold."""

    whole: Group
    timely: Group
    """The same rows, but for those of times that are none in UTC."""
    untimely: Sequence[Quarantined]
    columns: Columns

    @classmethod
    def of(cls, group: Group, partitions: int) -> "Part":
        """Return a group with its columns, of a topic with so many partitions."""
        try:
            return cls(group, group, (), columns_of(group, partitions))
        except OverflowError:
            timely, untimely = group.without_untimely()
            return cls(group, timely, untimely, columns_of(timely, partitions))

    @classmethod
    def joined(cls, parts: Sequence["Part"]) -> "Part":
        """Return several as one, one after the other."""
        whole = Group.joined([part.whole for part in parts])
        untimely = [row for part in parts for row in part.untimely]
        timely = Group.joined([part.timely for part in parts]) if untimely else whole
        return cls(whole, timely, untimely, Columns.joined([part.columns for part in parts]))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch taken apart by what was declared when that began."""

    found: Sorted
    """All but its groups: they are taken over."""
    streams: Mapping[str, Part]
    declared: Mapping[str, Schema | Violation]
    partitions: int
    """How many the topic had."""


async def current(
    ahead: Prepared | None, slices: Sequence[Slice], schemas: Schemas, partitions: int
) -> Prepared:
    """Return a batch taken apart by what is declared now: as it was ahead, or anew.

    What it speaks of and nobody knows may have been declared meanwhile: then it is asked for.
    """
    found = ahead or await prepare(slices, schemas, partitions)
    if found.found.stale:
        await schemas.refresh()
        found = await prepare(slices, schemas, partitions)
    while (found.declared, found.partitions) != (schemas.declared(), partitions):
        found = await prepare(slices, schemas, partitions)
    return found


async def prepare(slices: Sequence[Slice], schemas: Schemas, partitions: int) -> Prepared:
    """Take a batch apart, of a topic with so many partitions; others get their turn between."""
    sorting = Sorting(schemas)
    parts: dict[str, list[Part]] = {}
    for records in _pieces(slices):
        sorting.take(records)
        for name, group in sorting.found.taken(at_least=_ROWS):
            parts.setdefault(name, []).append(Part.of(group, partitions))
        await asyncio.sleep(0)
    for name, group in sorting.found.taken(at_least=1):
        parts.setdefault(name, []).append(Part.of(group, partitions))
    return Prepared(
        found=sorting.found,
        streams={name: Part.joined(several) for name, several in sorted(parts.items())},
        declared=sorting.declared,
        partitions=partitions,
    )


def _pieces(slices: Sequence[Slice]) -> Iterator[Sequence[Record]]:
    for part in slices:
        for first in range(0, len(part.records), _ROWS):
            yield from _bounded(part.records[first : first + _ROWS])


def _bounded(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Yield records that are few enough in bytes, too, or single ones: each may hold rows."""
    if len(records) == 1 or sum(len(record.value or b"") for record in records) <= _BYTES:
        yield records
        return
    half = len(records) // 2
    yield from _bounded(records[:half])
    yield from _bounded(records[half:])
