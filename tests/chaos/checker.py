"""Compares what was sent with what is there: nothing lost or doubled, each reject explained."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tests.chaos.journal import Place, Sent
from tests.chaos.rows import Values


class Fault(StrEnum):
    """What can be wrong."""

    LOST = "lost"
    DOUBLED = "doubled"
    CHANGED = "changed"
    NOT_SENT = "not sent"
    BAD_ROW_ACCEPTED = "bad row accepted"
    GOOD_ROW_REFUSED = "good row refused"
    REJECT_LOST = "reject lost"
    REJECT_DOUBLED = "reject doubled"
    WRONG_REASON = "wrong reason"
    REJECT_CHANGED = "reject changed"
    UNDECIDED = "undecided"
    NOT_ACCOUNTED = "not accounted"
    ACCOUNTED_TWICE = "accounted twice"
    BEYOND_THE_END = "beyond the end"
    WRONG_PLACE = "wrong place"
    WRONG_CONTENT = "wrong content"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    fault: Fault
    subject: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Landed:
    """A row of the lake; `row` counts within a Kafka record that carries many."""

    at: Place
    row: int
    values: Values


@dataclass(frozen=True, slots=True)
class Parked:
    """A row of the quarantine."""

    at: Place
    row: int
    key: str
    reason: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Pinned:
    """An announced version: how many rows of which content, as told and as read."""

    version: int
    told: tuple[int, str]
    read: tuple[int, str]


@dataclass(frozen=True, slots=True)
class State:
    """What is there: the lake, and what Postgres says of all that is not in it."""

    lake: Iterable[Landed]
    quarantine: Iterable[Parked]
    duplicates: Iterable[tuple[Place, int]]
    markers: Iterable[tuple[Place, int]]
    ends: Mapping[int, int]
    """By partition, the offset that the next record would have."""
    pins: Iterable[Pinned] = ()


@dataclass(slots=True)
class _Seen:
    """Where everything was found."""

    lake: dict[Place, set[str]] = field(default_factory=lambda: defaultdict(set))
    parked: dict[Place, list[Parked]] = field(default_factory=lambda: defaultdict(list))
    duplicates: set[Place] = field(default_factory=set)
    markers: set[Place] = field(default_factory=set)
    rows: Counter[tuple[Place, int]] = field(default_factory=Counter)


def compare(sent: Sent, there: State) -> list[Finding]:
    """Return all that is wrong; an empty list is the proof."""
    seen = _Seen()
    findings = [*_undecided(sent), *_lake(sent, there, seen), *_quarantine(sent, there, seen)]
    for at, row in there.duplicates:
        seen.duplicates.add(at)
        seen.rows[at, row] += 1
    for at, row in there.markers:
        seen.markers.add(at)
        seen.rows[at, row] += 1
    return [*findings, *_places(sent, seen), *_accounts(there, seen), *_pins(there)]


def _pins(there: State) -> Iterator[Finding]:
    for pin in there.pins:
        if pin.told != pin.read:
            detail = f"announced {pin.told}; found {pin.read}"
            yield Finding(Fault.WRONG_CONTENT, f"version {pin.version}", detail)


def _undecided(sent: Sent) -> Iterator[Finding]:
    for name in sorted(sent.undecided):
        yield Finding(Fault.UNDECIDED, name)
    for key, code in sorted(sent.refused.items()):
        yield Finding(Fault.GOOD_ROW_REFUSED, key, f"at the door: {code}")
    for key in sorted(sent.good.keys() - sent.accepted - sent.refused.keys()):
        yield Finding(Fault.UNDECIDED, key, "no send of it ended well")


def _lake(sent: Sent, there: State, seen: _Seen) -> Iterator[Finding]:
    found: Counter[str] = Counter()
    for landed in there.lake:
        key = str(landed.values.get("id"))
        seen.lake[landed.at].add(key)
        seen.rows[landed.at, landed.row] += 1
        found[key] += 1
        wanted = sent.good.get(key)
        if wanted is None:
            fault = Fault.BAD_ROW_ACCEPTED if key in sent.bad else Fault.NOT_SENT
            yield Finding(fault, key, f"at {landed.at}")
        elif not _same(wanted, landed.values):
            yield Finding(Fault.CHANGED, key, f"expected {wanted}; found {landed.values}")
    for key in sent.good:
        if found[key] == 0:
            yield Finding(Fault.LOST, key)
        elif found[key] > 1:
            yield Finding(Fault.DOUBLED, key, f"{found[key]} times")


def _same(wanted: Values, found: Values) -> bool:
    """Compare contents; 1 and 1.0 are one number, 1 and true are not."""
    return wanted.keys() == found.keys() and all(
        found[name] == value and isinstance(found[name], bool) == isinstance(value, bool)
        for name, value in wanted.items()
    )


def _quarantine(sent: Sent, there: State, seen: _Seen) -> Iterator[Finding]:
    found: Counter[str] = Counter()
    for parked in there.quarantine:
        seen.parked[parked.at].append(parked)
        seen.rows[parked.at, parked.row] += 1
        found[parked.key] += 1
        wanted = sent.bad.get(parked.key)
        if wanted is None:
            known = parked.key in sent.good
            fault = Fault.GOOD_ROW_REFUSED if known else Fault.NOT_SENT
            yield Finding(fault, parked.key, f"in quarantine at {parked.at}: {parked.reason}")
        elif parked.reason != wanted.reason:
            detail = f"{wanted.kind}: expected {wanted.reason}; found {parked.reason}"
            yield Finding(Fault.WRONG_REASON, parked.key, detail)
    for key, wanted in sent.bad.items():
        if found[key] == 0 and (wanted.taken or not wanted.refused):
            yield Finding(Fault.REJECT_LOST, key, wanted.kind)
        elif found[key] > wanted.tries:
            detail = f"{wanted.kind}: sent {wanted.tries} times; found {found[key]}"
            yield Finding(Fault.REJECT_DOUBLED, key, detail)


def _places(sent: Sent, seen: _Seen) -> Iterator[Finding]:
    """Hold what Kafka acknowledged at a place to that very place."""
    for at, key in sent.good_at.items():
        if key not in seen.lake.get(at, ()) and at not in seen.duplicates:
            yield Finding(Fault.WRONG_PLACE, key, f"{at}: neither in the lake nor a duplicate")
    for at, (key, sha256) in sent.bad_at.items():
        parked = [one for one in seen.parked.get(at, ()) if one.key == key]
        if not parked:
            yield Finding(Fault.REJECT_LOST, key, f"{at}: not in quarantine")
        elif parked[0].sha256 != sha256:
            yield Finding(Fault.REJECT_CHANGED, key, f"{at}: other bytes than were sent")
    for at in sorted(sent.markers - seen.markers):
        yield Finding(Fault.WRONG_PLACE, str(at), "a marker that was not counted as one")


def _accounts(there: State, seen: _Seen) -> Iterator[Finding]:
    """Each offset has a place, and each row of it exactly one."""
    reached: dict[int, set[int]] = defaultdict(set)
    for ((partition, offset), row), times in seen.rows.items():
        reached[partition].add(offset)
        if times > 1:
            subject = f"{partition}/{offset}"
            yield Finding(Fault.ACCOUNTED_TWICE, subject, f"row {row}: {times} times")
    for partition in sorted({*there.ends, *reached}):
        offsets = set(range(there.ends.get(partition, 0)))
        for offset in sorted(offsets - reached[partition]):
            yield Finding(Fault.NOT_ACCOUNTED, f"{partition}/{offset}")
        for offset in sorted(reached[partition] - offsets):
            yield Finding(Fault.BEYOND_THE_END, f"{partition}/{offset}")
