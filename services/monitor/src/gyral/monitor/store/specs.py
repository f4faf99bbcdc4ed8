"""What the monitor knows of declared models and streams: projections, read as watches."""

from gyral.contracts.data import StreamDeclared
from gyral.contracts.versions import ModelDeclared
from gyral.kit.projection import Projection
from gyral.kit.telemetry import get_log
from gyral.monitor.domain.watches import Watch

log = get_log()


class Specs:
    """Both projections, and the watch each model's latest spec amounts to."""

    def __init__(
        self, models: Projection[ModelDeclared], streams: Projection[StreamDeclared]
    ) -> None:
        self.models = models
        self.streams = streams
        self._watches: dict[str, tuple[tuple[int | None, ...], Watch]] = {}

    async def refresh(self) -> None:
        """Return once everything is known that is declared now; raises TimeoutError."""
        await self.models.refresh()
        await self.streams.refresh()

    def watch(self, model: str) -> Watch | None:
        """Return how a model is watched, or None while it or its streams are unknown."""
        declared = self.models.get(model)
        if declared is None:
            return None
        body = declared.spec.spec
        rows, labels = (
            self.streams.get(body.features.stream),
            self.streams.get(body.label.stream),
        )
        if rows is None or labels is None:
            return None
        at = (declared.generation, rows.generation, labels.generation)
        known = self._watches.get(model)
        if known is None or known[0] != at:
            try:
                watch = Watch.of(declared.spec, declared.generation, rows.spec, labels.spec)
            except ValueError as error:
                log.warning("spec.unfit", model=model, reason=str(error))
                return None
            known = (at, watch)
            self._watches[model] = known
        return known[1]

    def watches(self) -> list[Watch]:
        """Return the watches of all declared models, by name."""
        found = (self.watch(name) for name in sorted(it.name for it in self.models.values()))
        return [watch for watch in found if watch is not None]

    def ready(self) -> str | None:
        """Answer None once both were read."""
        return self.models.ready() or self.streams.ready()
