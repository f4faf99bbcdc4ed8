"""Which process meets what, and when, drawn from a seed."""

import random
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What can happen."""

    KILL = "kill"
    KILL_TWICE = "kill, and again while it starts"
    ZOMBIE = "zombie"
    BROKER = "broker restart"
    DATABASE = "database crash"
    STORE = "object store away"
    UPGRADE = "next generation of the stream"


DOOR = "ingestion"
JUDGES = ("validation-a", "validation-b")
VICTIMS = (DOOR, *JUDGES)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to happen, once so many more sends were acknowledged."""

    kind: Kind
    victim: str
    after: int

    @property
    def kills(self) -> int:
        """How many SIGKILLs it is."""
        return {Kind.KILL: 1, Kind.KILL_TWICE: 2}.get(self.kind, 0)


def long_plan(seed: int, *, kills: int = 50, zombies: int = 6) -> list[Fault]:
    """Return every kind of fault in a drawn order, the upgrade in the middle."""
    rng = random.Random(f"{seed}/plan")
    drawn: list[tuple[Kind, str]] = []
    while (left := kills - _kills(drawn)) > 0:
        kind = Kind.KILL_TWICE if left > 1 and rng.random() < 0.2 else Kind.KILL
        drawn.append((kind, VICTIMS[len(drawn) % len(VICTIMS)]))
    drawn += [(Kind.ZOMBIE, JUDGES[number % len(JUDGES)]) for number in range(zombies)]
    drawn += [(Kind.BROKER, "kafka"), (Kind.DATABASE, "postgres"), (Kind.STORE, "minio")]
    rng.shuffle(drawn)
    drawn.insert(len(drawn) // 2, (Kind.UPGRADE, DOOR))
    return [Fault(kind, victim, rng.randrange(200, 3000)) for kind, victim in drawn]


def short_plan(seed: int) -> list[Fault]:
    """Return five SIGKILLs, a zombie and the upgrade; the door's first.

    The door keeps a key for a minute after it died with it in hand: that minute is to run
    while the others meet theirs.
    """
    rng = random.Random(f"{seed}/plan")
    judged = [(Kind.KILL, judge) for judge in JUDGES]
    judged += [(Kind.KILL, rng.choice(JUDGES)), (Kind.ZOMBIE, rng.choice(JUDGES))]
    rng.shuffle(judged)
    drawn = [(Kind.KILL, DOOR), (Kind.KILL, DOOR), (Kind.UPGRADE, DOOR), *judged]
    return [Fault(kind, victim, rng.randrange(200, 1500)) for kind, victim in drawn]


def _kills(drawn: list[tuple[Kind, str]]) -> int:
    return sum(Fault(kind, victim, 0).kills for kind, victim in drawn)
