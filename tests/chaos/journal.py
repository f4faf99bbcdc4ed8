"""What the sender says it sent and what it was told: a line of JSON each, as it happens."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Self, TextIO

from tests.chaos.rows import Bad, Row, Values

Place = tuple[int, int]
"""Partition and offset."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Outcome(StrEnum):
    """What is known of a send; unknown is neither: it may have been taken or not."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Way(StrEnum):
    """How a row went."""

    DOOR = "door"
    KAFKA = "kafka"


class Journal:
    """Appends a line before what it tells of is sent, or as soon as it is known."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def good(self, row: Row) -> None:
        """Say that a row will be sent which must be in the lake."""
        self._line({"op": "good", "key": row.key, "values": row.values})

    def bad(self, row: Bad) -> None:
        """Say that a row will be sent which must be refused."""
        self._line({"op": "bad", "key": row.key, "kind": row.kind, "reason": row.reason})

    def sent(
        self,
        send: str,
        way: Way,
        outcome: Outcome,
        *,
        good: Sequence[str] = (),
        bad: Sequence[str] = (),
        code: str = "",
        at: Place | None = None,
        value: bytes | None = None,
    ) -> None:
        """Say how a send ended; `send` names it over all its tries."""
        line: Values = {"op": "sent", "send": send, "way": way, "outcome": outcome}
        line |= {"good": list(good), "bad": list(bad), "code": code, "at": at}
        if bad and way is Way.KAFKA:
            line["sha256"] = hashlib.sha256(value or b"").hexdigest()
        self._line(line)

    def marked(self, at: Place) -> None:
        """Say that a marker lies there."""
        self._line({"op": "marked", "at": at})

    def _line(self, content: Values) -> None:
        self._file.write(json.dumps(content) + "\n")
        self._file.flush()


@dataclass(slots=True)
class Expected:
    """A bad row: what it must be refused for, and how often it may have been taken."""

    kind: str
    reason: str
    tries: int = 0
    taken: int = 0
    refused: int = 0


@dataclass(slots=True)
class Sent:
    """All that a journal says."""

    good: dict[str, Values] = field(default_factory=dict)
    bad: dict[str, Expected] = field(default_factory=dict)
    good_at: dict[Place, str] = field(default_factory=dict)
    bad_at: dict[Place, tuple[str, str]] = field(default_factory=dict)
    """Where bad rows lie: key and digest of the bytes."""
    markers: set[Place] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)
    """Keys of good rows of which a send ended well."""
    undecided: set[str] = field(default_factory=set)
    """Sends whose last word is unknown."""
    refused: dict[str, str] = field(default_factory=dict)
    """Good rows that were refused when sent alone, with the code."""
    tally: Counter[str] = field(default_factory=Counter)


def read(lines: Iterable[str]) -> Sent:
    """Return what a journal says."""
    sent = Sent()
    for line in lines:
        entry = json.loads(line)
        match entry["op"]:
            case "good":
                sent.good[entry["key"]] = stored(entry["values"])
            case "bad":
                sent.bad[entry["key"]] = Expected(entry["kind"], entry["reason"])
            case "marked":
                sent.markers.add(tuple(entry["at"]))
            case _:
                _add(sent, entry)
    return sent


def _add(sent: Sent, entry: Mapping[str, object]) -> None:
    outcome, name = Outcome(str(entry["outcome"])), str(entry["send"])
    good, bad = _texts(entry["good"]), _texts(entry["bad"])
    sent.tally[f"{entry['way']} {outcome}"] += 1
    (sent.undecided.add if outcome is Outcome.UNKNOWN else sent.undecided.discard)(name)
    for key in bad:
        row = sent.bad[key]
        row.tries += 1
        row.taken += outcome is Outcome.OK
        row.refused += outcome is Outcome.REFUSED
    if outcome is Outcome.REFUSED and not bad and len(good) == 1:
        sent.refused[good[0]] = str(entry["code"])
    if outcome is Outcome.OK:
        sent.accepted.update(good)
        _locate(sent, entry, good, bad)


def _locate(
    sent: Sent, entry: Mapping[str, object], good: Sequence[str], bad: Sequence[str]
) -> None:
    at = entry["at"]
    if isinstance(at, list):
        place = (int(at[0]), int(at[1]))
        for key in good:
            sent.good_at[place] = key
        for key in bad:
            sent.bad_at[place] = (key, str(entry["sha256"]))


def stored(values: Mapping[str, object]) -> Values:
    """Return a row's values as a table holds them: times in microseconds, nothing for null."""
    kept = {name: value for name, value in values.items() if value is not None}
    passed = datetime.fromisoformat(str(values["at"])) - _EPOCH
    return kept | {"at": passed // timedelta(microseconds=1)}


def _texts(found: object) -> list[str]:
    return [str(one) for one in found] if isinstance(found, list) else []
