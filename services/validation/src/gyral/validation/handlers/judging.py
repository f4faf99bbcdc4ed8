"""One stream's part of a batch, judged: what is good, what is refused, what was here before."""

from dataclasses import dataclass, field

import msgspec
import pyarrow as pa

from gyral.validation.domain.accounting import Duplicate, Quarantined
from gyral.validation.domain.identity import Identity, Seen, recall
from gyral.validation.domain.refusals import Reason, Violation, shown, violation
from gyral.validation.domain.watermark import PartitionTime, latest
from gyral.validation.engine.intake import Group, place_of, refuse
from gyral.validation.engine.lake import Offsets, Span
from gyral.validation.engine.outlet import Labels
from gyral.validation.engine.schema import Decoded, Schema, digest
from gyral.validation.store.memory import Memory


@dataclass(slots=True)
class Good:
    """Accepted rows, aligned, in the order of their partitions."""

    rows: list[msgspec.Struct] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    revisions: list[int] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    """(partition, offset)."""


@dataclass(slots=True)
class Judged:
    """A stream's part of a batch."""

    schema: Schema
    landed: Offsets
    good: Good = field(default_factory=Good)
    identities: dict[str, Identity] = field(default_factory=dict)
    refused: list[Quarantined] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)
    unread: int = 0
    """Rows in the lake already that today's schema would refuse."""

    @property
    def accepted(self) -> int:
        """Rows that are in the lake once this batch is."""
        return len(self.good.rows) + self.unread

    def fresh(self) -> pa.Table | None:
        """Return what the lake does not have yet, or None."""
        good = self.good
        chosen = [at for at, place in enumerate(good.places) if place not in self.landed]
        if not chosen:
            return None
        return self.schema.table(
            [good.rows[at] for at in chosen],
            [good.places[at][0] for at in chosen],
            [good.places[at][1] for at in chosen],
        )

    def labels(self) -> list[Labels]:
        """Return the accepted rows as labels, one set of columns a partition."""
        good = self.good
        found = []
        for partition in sorted({place[0] for place in good.places}):
            chosen = [at for at, place in enumerate(good.places) if place[0] == partition]
            rows = [good.rows[at] for at in chosen]
            found.append(
                Labels(
                    stream=self.schema.stream,
                    partition=partition,
                    keys=[good.keys[at] for at in chosen],
                    event_times=[good.times[at] for at in chosen],
                    revisions=[good.revisions[at] for at in chosen],
                    values={name: self.schema.plain(name, rows) for name in self.schema.fields},
                )
            )
        return found

    def times(self) -> dict[int, PartitionTime]:
        """Return the largest accepted event time of each partition."""
        found: dict[int, int | None] = {}
        for (partition, _), time in zip(self.good.places, self.good.times, strict=True):
            found[partition] = latest(found.get(partition), time)
        return {partition: PartitionTime(data_us=time) for partition, time in found.items()}


def spans_of(group: Group) -> list[Span]:
    """Return the offsets a group covers, by partition."""
    bounds: dict[tuple[str, int], list[int]] = {}
    for record in group.records:
        place = (record.topic, record.partition)
        bounds.setdefault(place, [record.offset, record.offset])[1] = record.offset
    return [Span(*place, first, last) for place, (first, last) in sorted(bounds.items())]


async def judge(
    group: Group, schema: Schema, memory: Memory, landed: Offsets, *, latest_us: int
) -> Judged:
    """Judge a stream's rows.

    What the lake holds already counts as good whatever would be decided today: a process died
    between the lake and Postgres, and the row is there.
    """
    judged = Judged(schema, landed)
    decoded = schema.decode(group.raws)
    sound = [
        at
        for at in range(len(group))
        if _is_sound(at, group, decoded, judged, latest_us=latest_us)
    ]
    known = await memory.identities(
        schema.stream, [group.envelopes[at].record_key for at in sound]
    )
    places = [(record.partition, record.offset) for record in group.records]
    accepted = []
    for at in sorted(sound, key=lambda at: places[at] not in landed):
        row = decoded.rows[at]
        assert row is not None  # noqa: S101 - sound rows were decoded
        key = group.envelopes[at].record_key
        identity = Identity(digest(row), schema.event_time_us(row))
        before = known.get(key)
        seen = Seen.NEW if places[at] in landed else recall(before, identity, schema.dedupe_us)
        if seen is Seen.NEW:
            revision = 0 if before is None else before.revision + 1
            known[key] = Identity(identity.digest, identity.event_time_us, revision)
            judged.identities[key] = known[key]
            accepted.append((at, revision))
        else:
            _set_aside(at, group, judged, seen)
    for at, revision in sorted(accepted):
        row = decoded.rows[at]
        assert row is not None  # noqa: S101 - sound rows were decoded
        judged.good.rows.append(row)
        judged.good.keys.append(group.envelopes[at].record_key)
        judged.good.times.append(schema.event_time_us(row))
        judged.good.revisions.append(revision)
        judged.good.places.append(places[at])
    return judged


def _is_sound(
    at: int, group: Group, decoded: Decoded, judged: Judged, *, latest_us: int
) -> bool:
    """Tell whether a row may be accepted; file it where it belongs when not."""
    wrong = (
        _too_new(group.envelopes[at].schema_version, judged.schema.generation)
        or decoded.violations.get(at)
        or _wrong_as_a_whole(at, group, decoded, judged.schema, latest_us)
    )
    if wrong is None:
        return True
    record = group.records[at]
    if (record.partition, record.offset) in judged.landed:
        judged.unread += 1
        return False
    envelope = group.envelopes[at]
    judged.refused.append(
        refuse(
            record,
            wrong,
            stream=envelope.stream,
            record_key=envelope.record_key,
            schema_version=envelope.schema_version,
        )
    )
    return False


def _too_new(version: int, generation: int) -> Violation | None:
    if version <= generation:
        return None
    expected = f"at most {generation}"
    return violation(Reason.UNKNOWN_SCHEMA_VERSION, "schema_version", expected, version)


def _wrong_as_a_whole(
    at: int, group: Group, decoded: Decoded, schema: Schema, latest_us: int
) -> Violation | None:
    row = decoded.rows[at]
    assert row is not None  # noqa: S101 - it has no violation
    key = schema.key_of(row)
    if key != group.envelopes[at].record_key:
        expected = f"the record's key {shown(group.envelopes[at].record_key)}"
        return violation(Reason.KEY_MISMATCH, schema.key, expected, key)
    time = schema.event_time_us(row)
    if time < 0:
        return violation(Reason.TIMESTAMP, schema.event_time, "a time of 1970 or later", time)
    if time > latest_us:
        return violation(Reason.FUTURE, schema.event_time, f"at most {latest_us} (us)", time)
    return None


def _set_aside(at: int, group: Group, judged: Judged, seen: Seen) -> None:
    record, envelope = group.records[at], group.envelopes[at]
    if seen is Seen.DUPLICATE:
        judged.duplicates.append(
            Duplicate(place_of(record), envelope.stream, envelope.record_key)
        )
        return
    detail = (
        f"{judged.schema.key}: expected the content accepted before under this key; found other"
    )
    judged.refused.append(
        refuse(
            record,
            Violation(Reason.CONFLICTING_DUPLICATE, detail),
            stream=envelope.stream,
            record_key=envelope.record_key,
            schema_version=envelope.schema_version,
        )
    )
