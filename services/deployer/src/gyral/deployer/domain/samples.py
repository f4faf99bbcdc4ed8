"""Which answers of a step are kept: all, and of a step without an end of its own ever fewer."""

from dataclasses import dataclass
from hashlib import blake2b
from uuid import UUID

KEPT_WHOLE = 200_000
"""So many answers of a step that only an operator ends are kept whole."""
_TENTH = KEPT_WHOLE // 10


@dataclass(frozen=True, slots=True)
class Step:
    """A step under way, as far as counting goes."""

    epoch: int
    open_ended: bool
    """Only an operator ends it: an experiment, or one that is held or waits for approval."""
    kept: int
    """Answers kept of it when it was judged last."""

    @property
    def halvings(self) -> int:
        """How often the share that is kept was halved: twice for each tenth beyond the whole.

        So billions of requests leave less than twice `KEPT_WHOLE`. The share depends on counts
        alone and is known before an answer is, so what holds for all answers holds for these.
        """
        if not self.open_ended or self.kept < KEPT_WHOLE:
            return 0
        return 2 * (1 + (self.kept - KEPT_WHOLE) // _TENTH)

    def keeps(self, request_id: UUID) -> bool:
        """True when the answers to a request count: those of all versions, or of none."""
        if self.halvings == 0:
            return True
        drawn = int.from_bytes(blake2b(request_id.bytes, digest_size=8).digest(), "big")
        return drawn < 1 << max(0, 64 - self.halvings)
