"""Decoded rows of one stream, each with the record it came in."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from operator import attrgetter

import msgspec
import numpy as np

from gyral.kit.cloudevents import Record
from gyral.modelling.columns import Ints
from gyral.validation.domain.accounting import Place, Quarantined
from gyral.validation.domain.refusals import Reason, Violation, violation
from gyral.validation.engine.many import is_batch, line_of
from gyral.validation.engine.reading import Span
from gyral.validation.engine.refusing import Named, refuse, refuse_row
from gyral.validation.engine.schema import Schema


@dataclass
class Group:
    """Decoded rows of one stream, aligned, in the order of their partitions."""

    schema: Schema
    records: list[Record] = field(default_factory=list)
    envelopes: list[msgspec.Struct] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    """Each row's index within its record."""

    def __len__(self) -> int:
        return len(self.records)

    def add(self, record: Record, envelope: msgspec.Struct, row: int) -> None:
        """Append a row, before any column is asked for."""
        self.records.append(record)
        self.envelopes.append(envelope)
        self.row.append(row)

    def extend(
        self,
        records: Sequence[Record],
        envelopes: Sequence[msgspec.Struct],
        rows: Sequence[int],
    ) -> None:
        """Append rows, as `add` does."""
        self.records += records
        self.envelopes += envelopes
        self.row += rows

    @classmethod
    def joined(cls, parts: Sequence["Group"]) -> "Group":
        """Return the rows of several parts of one stream's, one after the other."""
        if len(parts) == 1:
            return parts[0]
        whole = cls(parts[0].schema)
        for part in parts:
            whole.records += part.records
            whole.envelopes += part.envelopes
            whole.row += part.row
        whole.rows = list(chain.from_iterable(part.rows for part in parts))
        whole.keys = list(chain.from_iterable(part.keys for part in parts))
        whole.versions = np.concatenate([part.versions for part in parts])
        whole.partitions = np.concatenate([part.partitions for part in parts])
        whole.offsets = np.concatenate([part.offsets for part in parts])
        whole.indices = np.concatenate([part.indices for part in parts])
        return whole

    @cached_property
    def rows(self) -> list[msgspec.Struct]:
        """The values, decoded."""
        return list(map(attrgetter("values"), self.envelopes))

    @cached_property
    def keys(self) -> list[str]:
        """What the records are keyed by."""
        return list(map(attrgetter("record_key"), self.envelopes))

    @cached_property
    def versions(self) -> Ints:
        """The generations their senders knew, shape (rows,)."""
        return _column("schema_version", self.envelopes)

    @cached_property
    def partitions(self) -> Ints:
        """Where the records lie, shape (rows,)."""
        return _column("partition", self.records)

    @cached_property
    def offsets(self) -> Ints:
        """Where in their partitions, shape (rows,)."""
        return _column("offset", self.records)

    @cached_property
    def indices(self) -> Ints:
        """Where in their records, shape (rows,)."""
        return np.array(self.row, dtype=np.int64)

    def without_untimely(self) -> tuple["Group", list[Quarantined]]:
        """Return the rows whose times the lake can hold, and the others refused."""
        kept, refused = Group(self.schema), []
        for at, row in enumerate(self.rows):
            wrong = self.schema.untimely(row)
            if wrong is None:
                kept.add(self.records[at], self.envelopes[at], self.row[at])
            else:
                refused.append(self.refuse(at, wrong))
        return kept, refused

    def place(self, at: int) -> Place:
        """Return where a row lies."""
        record = self.records[at]
        return Place(record.topic, record.partition, record.offset, self.row[at])

    def spans(self) -> list[Span]:
        """Return the offsets these rows cover, by partition."""
        topic = self.records[0].topic
        partitions, offsets = self.partitions, self.offsets
        spans = []
        for partition in np.unique(partitions):
            of_partition = offsets[partitions == partition]
            ends = int(of_partition.min()), int(of_partition.max())
            spans.append(Span(topic, int(partition), *ends))
        return spans

    def refuse(self, at: int, violation: Violation) -> Quarantined:
        """Return a row as quarantine keeps it."""
        record, key, version = self.records[at], self.keys[at], int(self.versions[at])
        if is_batch(record):
            values = line_of(record, self.row[at]) or msgspec.json.encode(self.rows[at])
            named = Named(self.schema.stream, key, version)
            return refuse_row(
                record,
                violation,
                values,
                row=self.row[at],
                envelope=named,
                vouched=self.schema.subject is not None,
            )
        refused = refuse(
            record,
            violation,
            stream=self.schema.stream,
            record_key=key,
            schema_version=version,
            vouched=self.schema.subject is not None,
        )
        if violation.reason is Reason.WRONG_PARTITION:
            return replace(refused, kafka_key=key.encode())
        return refused


def _column(name: str, objects: Sequence[object]) -> Ints:
    return np.fromiter(map(attrgetter(name), objects), np.int64, len(objects))


def too_new(version: int, schema: Schema) -> Violation:
    """Return the refusal of a row whose sender knew a generation that is not declared."""
    expected = f"at most {schema.generation}"
    return violation(Reason.UNKNOWN_SCHEMA_VERSION, "schema_version", expected, version)
