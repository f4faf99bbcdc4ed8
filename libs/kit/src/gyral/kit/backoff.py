"""Waiting between attempts: longer each time, never in step with others."""

import asyncio
import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Exponential delays with jitter, from `first_s` up to `limit_s`."""

    first_s: float = 0.1
    limit_s: float = 10.0
    rng: random.Random = field(default_factory=random.Random)
    _round: int = 0

    def next_s(self) -> float:
        """Return the next delay: half of it fixed, half random."""
        delay = min(self.limit_s, self.first_s * 2.0 ** min(self._round, 30))
        self._round += 1
        return delay * self.rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start over, after something worked."""
        self._round = 0

    async def wait(self) -> float:
        """Sleep for the next delay and return it."""
        delay = self.next_s()
        await asyncio.sleep(delay)
        return delay
