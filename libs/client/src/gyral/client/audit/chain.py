"""The audit chain, verified by somebody other than its writer."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it is stored."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    change: str
    """JSON."""
    previous: str
    hash: str

    def computed(self, previous: str) -> str:
        """Return SHA-256 over the previous hash and this entry's canonical JSON."""
        body = {
            "seq": self.seq,
            "at": self.at.isoformat(),
            "actor": self.actor,
            "action": self.action,
            "subject": self.subject,
            "reason": self.reason,
            "change": json.loads(self.change),
        }
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(f"{previous}\n{canonical}".encode()).hexdigest()


def breaks(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield a line for each entry that does not follow from the one before."""
    previous, seq = GENESIS, 0
    for entry in entries:
        if entry.seq != seq + 1:
            yield f"entry {entry.seq}: expected entry {seq + 1}"
        elif entry.previous != previous or entry.computed(previous) != entry.hash:
            yield f"entry {entry.seq}: it does not follow from entry {seq}"
        previous, seq = entry.hash, entry.seq
