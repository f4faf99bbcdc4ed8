"""The audit chain.

Each entry's hash covers the entry before it, so no entry changes unnoticed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

GENESIS = "0" * 64
"""What the first entry's predecessor hashes to."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One state change.

    Who did what to which subject, why, and what it was before and after.
    """

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    change: Mapping[str, object]
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Break:
    """The first place where a chain does not verify."""

    seq: int
    expected: str
    found: str


def entry_hash(
    *,
    previous: str,
    seq: int,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    reason: str,
    change: Mapping[str, object],
) -> str:
    """Return the SHA-256, in hex, of the previous hash and this entry's canonical JSON."""
    body = {
        "seq": seq,
        "at": at.isoformat(),
        "actor": actor,
        "action": action,
        "subject": subject,
        "reason": reason,
        "change": change,
    }
    canonical = json.dumps(
        body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(f"{previous}\n{canonical}".encode()).hexdigest()


def first_break(
    entries: Iterable[Entry], *, previous: str = GENESIS, seq: int = 0
) -> Break | None:
    """Return where the chain first fails, or None when every entry follows from the one before.

    Args:
        entries: consecutive entries in order of `seq`.
        previous: hash of the entry before the first one.
        seq: number of the entry before the first one.
    """
    for entry in entries:
        if entry.seq != seq + 1:
            return Break(entry.seq, f"entry {seq + 1}", f"entry {entry.seq}")
        if entry.previous != previous:
            return Break(entry.seq, previous, entry.previous)
        computed = entry_hash(
            previous=previous,
            seq=entry.seq,
            at=entry.at,
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            reason=entry.reason,
            change=entry.change,
        )
        if computed != entry.hash:
            return Break(entry.seq, computed, entry.hash)
        previous, seq = entry.hash, entry.seq
    return None
