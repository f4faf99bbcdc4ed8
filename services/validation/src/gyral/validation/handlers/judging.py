"""One stream's part of a batch, judged: what is good, what is refused, what was here before."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pyarrow as pa

from gyral.modelling.columns import Bools, Ints
from gyral.modelling.contents import Content
from gyral.validation.domain.accounting import Duplicate, Marked, Quarantined
from gyral.validation.domain.blocks import Observed
from gyral.validation.domain.identity import Identity, Seen, recall
from gyral.validation.domain.refusals import Reason, Violation, shown, violation
from gyral.validation.domain.segments import Identities
from gyral.validation.domain.standing import Change
from gyral.validation.domain.watermark import PartitionTime
from gyral.validation.engine.counting import observed
from gyral.validation.engine.groups import Group, too_new
from gyral.validation.engine.outlet import Labels
from gyral.validation.engine.preparing import Part
from gyral.validation.engine.reading import Offsets
from gyral.validation.engine.schema import Schema
from gyral.validation.store.memory import Memory


@dataclass(slots=True)
class Judged:
    """A stream's part of a batch; what was accepted is aligned, in the order of partitions."""

    schema: Schema
    rows: list[msgspec.Struct]
    table: pa.Table
    """The rows as the lake keeps them."""
    identities: Identities
    landed: Bools
    """Which of them a crash left in the lake already, shape (rows,)."""
    partitions: Ints
    refused: list[Quarantined] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)

    def fresh(self) -> pa.Table | None:
        """Return what the lake does not have yet, or None."""
        if not self.landed.any():
            return self.table if self.rows else None
        return None if self.landed.all() else self.table.filter(pa.array(~self.landed))

    def change(self) -> Change:
        """Return what those rows are, as the commit that brings them says it."""
        fresh = Content.of_digests(self.identities.contents[~self.landed])
        return Change(fresh, self.schema.generation)

    def by_partition(self) -> list[tuple[int, Ints]]:
        """Return each partition and where its rows are."""
        return [
            (int(partition), np.flatnonzero(self.partitions == partition))
            for partition in np.unique(self.partitions)
        ]

    def labels(self) -> list[Labels]:
        """Return the accepted rows as labels, one set of columns a partition."""
        found = []
        for partition, chosen in self.by_partition():
            rows = [self.rows[at] for at in chosen]
            found.append(
                Labels(
                    stream=self.schema.stream,
                    partition=partition,
                    keys=self.schema.keys(rows),
                    event_times=self.identities.times_us[chosen].tolist(),
                    revisions=self.identities.revisions[chosen].tolist(),
                    values={name: self.schema.plain(name, rows) for name in self.schema.fields},
                )
            )
        return found

    def observed(self, markers: Sequence[Marked]) -> Observed | None:
        """Return what is to be counted of the rows; None where nothing is expected of them."""
        measures = self.schema.expected.measures
        if not measures or not self.rows:
            return None
        places = [
            (marker.place.partition, marker.place.offset, marker.event_time_us)
            for marker in markers
            if marker.subject == self.schema.stream
        ]
        return observed(measures, self.table, self.identities.times_us, places)

    def times(self) -> dict[int, PartitionTime]:
        """Return the largest accepted event time of each partition."""
        times_us = self.identities.times_us
        return {
            partition: PartitionTime(data_us=int(times_us[chosen].max()))
            for partition, chosen in self.by_partition()
        }


async def judge(part: Part, memory: Memory, landed: Offsets, *, latest_us: int) -> Judged:
    """Judge a stream's rows.

    What the lake holds already counts as good whatever would be decided today: a process died
    between the lake and Postgres, and the row is there.
    """
    judging = _Judging(part, _is_landed(part.timely, landed), latest_us)
    judging.refused += part.untimely
    good = np.flatnonzero(judging.sound())
    good = good[await judging.new(good, memory)]
    return judging.judged(good)


def _is_landed(group: Group, landed: Offsets) -> Bools:
    if not landed:
        return np.zeros(len(group), dtype=np.bool_)
    columns = (group.partitions, group.offsets, group.indices)
    places = zip(*(column.tolist() for column in columns), strict=True)
    return np.fromiter((place in landed for place in places), np.bool_, len(group))


class _Judging:
    """A group under judgement: its columns, and what was found of its rows so far."""

    def __init__(self, part: Part, landed: Bools, latest_us: int) -> None:
        self.group = group = part.timely
        self.schema = group.schema
        self.landed = landed
        self.latest_us = latest_us
        self.rows = group.rows
        self.keys = group.keys
        self.partitions = group.partitions
        self.columns = columns = part.columns
        self.identities = Identities(
            columns.keys,
            columns.contents,
            columns.times_us,
            np.zeros(len(group), dtype=np.int32),
        )
        self.refused: list[Quarantined] = []
        self.duplicates: list[Duplicate] = []

    def sound(self) -> Bools:
        """Tell the rows that may be accepted; the others are refused, shape (rows,)."""
        times = self.identities.times_us
        wrong = (times < 0) | (times > self.latest_us)
        wrong |= self.group.versions > self.schema.generation
        wrong |= self.columns.homes != self.partitions
        wrong |= self.columns.misnamed
        wrong &= ~self.landed
        for at in np.flatnonzero(wrong).tolist():
            self._refuse(at, self._violation(at))
        return ~wrong

    def _violation(self, at: int) -> Violation:
        schema, time = self.schema, int(self.identities.times_us[at])
        version = int(self.group.versions[at])
        if version > schema.generation:
            return too_new(version, schema)
        if self.columns.misnamed[at]:
            [named] = schema.keys([self.rows[at]])
            expected = f"the record's key {shown(self.keys[at])}"
            return violation(Reason.KEY_MISMATCH, schema.key, expected, named)
        home = int(self.columns.homes[at])
        if home != self.partitions[at]:
            expected = f"partition {home}, where murmur2 puts this key"
            return violation(
                Reason.WRONG_PARTITION, "record_key", expected, int(self.partitions[at])
            )
        if time < 0:
            return violation(
                Reason.TIMESTAMP, schema.event_time, "a time of 1970 or later", time
            )
        return violation(
            Reason.FUTURE, schema.event_time, f"at most {self.latest_us} (us)", time
        )

    async def new(self, good: Ints, memory: Memory) -> Bools:
        """Tell which of these rows are new; the others were here before, shape (good,)."""
        known = await self._known(good, memory)
        suspect = self._repeated(good) | np.isin(good, list(known))
        fresh = np.ones(len(good), dtype=np.bool_)
        latest: dict[bytes, Identity] = {}
        # A row in the lake is a fact: those beside it are judged by it, whatever came first.
        order = np.flatnonzero(suspect)
        for place in order[np.argsort(~self.landed[good[order]], kind="stable")]:
            at = int(good[place])
            fresh[place] = self._is_new(at, known.get(at), latest)
        return fresh

    async def _known(self, good: Ints, memory: Memory) -> dict[int, Identity]:
        """Return what memory holds under the keys of these rows."""
        found: dict[int, Identity] = {}
        for partition in np.unique(self.partitions[good]):
            rows = good[self.partitions[good] == partition]
            keys = self.identities.keys[rows]
            held = await memory.find(self.schema.stream, int(partition), keys)
            found |= {int(rows[at]): identity for at, identity in held.items()}
        return found

    def _repeated(self, good: Ints) -> Bools:
        """Tell rows whose key may stand more than once among these."""
        halves = self.identities.keys[good, 0]
        in_order = np.sort(halves)
        return np.isin(halves, in_order[1:][np.diff(in_order) == 0])

    def _is_new(self, at: int, before: Identity | None, latest: dict[bytes, Identity]) -> bool:
        identities = self.identities
        key = identities.keys[at].tobytes()
        before = latest.get(key, before)
        time_us = int(identities.times_us[at])
        row = Identity(identities.contents[at].tobytes(), time_us)
        seen = Seen.NEW if self.landed[at] else recall(before, row, self.schema.dedupe_us)
        if seen is Seen.NEW:
            revision = 0 if before is None else before.revision + 1
            identities.revisions[at] = revision
            latest[key] = Identity(row.content, time_us, revision)
            return True
        self._set_aside(at, seen)
        return False

    def _set_aside(self, at: int, seen: Seen) -> None:
        if seen is Seen.DUPLICATE:
            place = self.group.place(at)
            self.duplicates.append(Duplicate(place, self.schema.stream, self.keys[at]))
            return
        detail = (
            f"{self.schema.key}: expected the content accepted before under this key;"
            " found other"
        )
        self._refuse(at, Violation(Reason.CONFLICTING_DUPLICATE, detail))

    def _refuse(self, at: int, wrong: Violation) -> None:
        self.refused.append(self.group.refuse(at, wrong))

    def judged(self, good: Ints) -> Judged:
        """Return the judgement, given the rows that are accepted."""
        every = len(good) == len(self.group)
        return Judged(
            schema=self.schema,
            rows=self.rows if every else [self.rows[at] for at in good],
            table=self.columns.table if every else self.columns.table.take(pa.array(good)),
            identities=self.identities if every else self.identities.take(good),
            landed=self.landed[good],
            partitions=self.partitions[good],
            refused=self.refused,
            duplicates=self.duplicates,
        )
