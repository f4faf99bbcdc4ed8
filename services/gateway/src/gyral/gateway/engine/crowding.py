"""How many requests of a version may be in hand: as many as it answers while one may wait."""

from dataclasses import dataclass, field

_RECENT = 0.2
"""Weight of the last batch in what is known of a version's pace."""
_ASLEEP = 64
"""Requests of a version that may wait for a runtime where there is none by intent: they hold
places of all models' requests for as long as one takes to start."""
_FEW = 96
"""Requests that are never too many: to be asked so many at once is what batches are for."""


class CrowdedError(RuntimeError):
    """The version has as much in hand as it can answer in good time."""


@dataclass(frozen=True, slots=True)
class Room:
    """How much may be in hand of one version."""

    most: int = 256
    """Requests, however fast it answers."""
    wait_s: float = 0.1
    """How long one may have to wait for its turn."""


@dataclass(slots=True)
class Crowd:
    """What is in hand of one version, and how fast that goes."""

    room: Room = field(default_factory=Room)
    requests: int = 0
    rows: int = 0
    taken: int = 0
    """Requests that entered since somebody looked; the four below likewise."""
    refused: int = 0
    answered: int = 0
    queued_s: float = 0.0
    """Time that those who were answered waited together before their batches left."""
    queue_max_s: float = 0.0
    _row_s: float = 0.0

    def enter(self, rows: int) -> None:
        """Count a request that was taken.

        Raises:
            CrowdedError: it would wait for too long.
        """
        if self.full:
            self.refused += 1
            raise CrowdedError(
                f"expected at most {self.requests} requests in hand; found as many, which take"
                f" {self.rows * self._row_s:.2g} s"
            )
        self.requests += 1
        self.taken += 1
        self.rows += rows

    def leave(self, rows: int) -> None:
        """Count a request that has its answer, or waits no more."""
        self.requests -= 1
        self.rows -= rows

    def left_queue(self, requests: int, longest_s: float, shortest_s: float) -> None:
        """Count a batch that was answered; it was filled in the order of coming."""
        self.answered += requests
        self.queued_s += requests * (longest_s + shortest_s) / 2
        self.queue_max_s = max(self.queue_max_s, longest_s)

    def took(self, rows: int, seconds: float) -> None:
        """Learn from a batch how long rows take."""
        one_s = seconds / rows
        self._row_s += (one_s - self._row_s) * (_RECENT if self._row_s else 1.0)

    @property
    def full_asleep(self) -> bool:
        """True when no more may wait for a runtime to be started."""
        return self.requests >= _ASLEEP

    @property
    def full(self) -> bool:
        """True when one more request would wait for too long."""
        if self.requests < _FEW:
            return self.requests >= self.room.most
        return self.requests >= self.room.most or self.rows * self._row_s > self.room.wait_s
