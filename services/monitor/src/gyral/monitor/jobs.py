"""What the monitor does by itself: the time of models on the wall clock advances."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

from gyral.monitor.store.observations import LABELS, PREDICTIONS
from gyral.monitor.store.specs import Specs


@dataclass(frozen=True, slots=True)
class WallClock:
    """Moves watermarks that no marker moves, as long as nothing waits to be read."""

    specs: Specs
    advance: Callable[[Iterable[tuple[str, str, int]]], Awaitable[None]]
    caught_up: Callable[[], bool]
    """True when the logs are read to their ends: time must not overtake rows."""
    now_us: Callable[[], int]
    grace_us: int

    async def run_once(self) -> None:
        """Advance everything that lives on the wall clock to now, less its lateness."""
        marks = sorted(set(self._marks(self.now_us() - self.grace_us)))
        if marks and self.caught_up():
            await self.advance(marks)

    def _marks(self, now_us: int) -> Iterator[tuple[str, str, int]]:
        for watch in self.specs.watches():
            if watch.wall_lateness_us is not None:
                yield PREDICTIONS, watch.model, now_us - watch.wall_lateness_us
            if watch.label_wall_lateness_us is not None:
                yield LABELS, watch.source.stream, now_us - watch.label_wall_lateness_us
