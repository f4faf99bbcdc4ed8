"""Tells the readers of labels how far a label stream has come, once its labels are there."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gyral.contracts.versions import ModelDeclared
from gyral.kit.db import is_infrastructure
from gyral.kit.projection import Projection
from gyral.kit.telemetry import get_log
from gyral.validation.engine.outlet import Outlet
from gyral.validation.store.lookups import Lookups

log = get_log()


@dataclass(frozen=True, slots=True)
class Forwarding:
    """Puts markers behind labels: after the commit that made them true, again after a crash."""

    models: Projection[ModelDeclared]
    lookups: Lookups
    outlet: Outlet
    crash: Callable[[str], None]
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def label_streams(self) -> frozenset[str]:
        """Return the streams some model takes its labels from."""
        return frozenset(model.spec.spec.label.stream for model in self.models.values())

    async def run(self) -> None:
        """Tell all that was committed and not told."""
        streams = sorted(self.label_streams())
        if not streams:
            return
        async with self._turn:
            for told in await self.lookups.unforwarded(streams):
                await self.outlet.mark_labels(told.stream, told.watermark_us)
                self.crash("after_forward")
                await self.lookups.forwarded(told)

    async def try_run(self) -> None:
        """Do the same, leaving it to the periodic job when Kafka or Postgres is away."""
        try:
            await self.run()
        except Exception as error:
            if not is_infrastructure(error):
                raise
            log.warning("watermark.not_forwarded", error=type(error).__name__)
