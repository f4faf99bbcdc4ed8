"""What groups were asked of late, second by second, as gateways reported it."""

import math
from collections import deque
from dataclasses import dataclass, field, replace

_MOST_GROUPS = 10_000
_MOST_GATEWAYS = 10_000
_SILENT_S = 5.0
"""Without a report of a gateway, after which nobody knows what it was asked meanwhile."""
_GONE_S = 600.0
"""Without a report of a gateway, after which it is taken to have ended."""


@dataclass(frozen=True, slots=True)
class Second:
    """What a group was asked in one second, by all gateways."""

    at: int
    """Whole seconds on the reader's own clock."""
    requests: int = 0
    refused: int = 0
    answered: int = 0
    queued_s: float = 0.0
    """Time that all who were answered waited together before their batches left."""
    queue_max_s: float = 0.0
    waiting: int = 0
    """Requests for which no runtime was there."""

    @property
    def queue_mean_s(self) -> float:
        """How long a request waited before its batch left."""
        return self.queued_s / self.answered if self.answered else 0.0

    @property
    def asked(self) -> bool:
        """True when anybody asked for anything."""
        return bool(self.requests or self.refused or self.answered or self.waiting)

    def joined(self, other: "Second") -> "Second":
        """Return what both tell of the same second."""
        return replace(
            self,
            requests=self.requests + other.requests,
            refused=self.refused + other.refused,
            answered=self.answered + other.answered,
            queued_s=self.queued_s + other.queued_s,
            queue_max_s=max(self.queue_max_s, other.queue_max_s),
            waiting=self.waiting + other.waiting,
        )


@dataclass(slots=True)
class Demand:
    """The memory of one deployer; of times without every gateway's reports it knows nothing."""

    began: float
    """Since when every gateway was heard without a gap."""
    keep_s: float
    _seconds: dict[str, deque[Second]] = field(default_factory=dict)
    _asked_at: dict[str, float] = field(default_factory=dict)
    _heard_at: dict[str, float] = field(default_factory=dict)

    def hear(self, gateway: str, at: float) -> None:
        """Take note that a gateway reports; what it was asked in a silence nobody knows."""
        last = self._heard_at.get(gateway, -math.inf)
        if at - last > _SILENT_S:
            self.began = at
        if gateway in self._heard_at or len(self._heard_at) < _MOST_GATEWAYS:
            self._heard_at[gateway] = at

    def known_until(self, now: float) -> float:
        """Return up to when every gateway has told what it was asked."""
        for gateway, at in list(self._heard_at.items()):
            if now - at > _GONE_S:
                del self._heard_at[gateway]
        return max(self.began, min(self._heard_at.values(), default=self.began))

    def take(self, group: str, told: Second) -> None:
        """Remember what a gateway told of a group; the clock never goes back."""
        if group not in self._seconds and len(self._seconds) >= _MOST_GROUPS:
            return
        seconds = self._seconds.setdefault(group, deque())
        if seconds and seconds[-1].at >= told.at:
            seconds[-1] = seconds[-1].joined(told)
        else:
            seconds.append(told)
        while seconds[0].at < told.at - self.keep_s:
            seconds.popleft()
        if told.asked:
            self._asked_at[group] = max(told.at, self._asked_at.get(group, -math.inf))

    def seen(self, group: str) -> tuple[Second, ...]:
        """Return what is known of a group, oldest second first."""
        return tuple(self._seconds.get(group, ()))

    def idle_since(self, group: str) -> float:
        """Return when a group was last asked as far as is known, or since when it is known."""
        return max(self._asked_at.get(group, self.began), self.began)
