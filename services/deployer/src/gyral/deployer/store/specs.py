"""What the deployer knows of declared models and streams.

Projections, asked for what they may not have yet.
"""

from dataclasses import dataclass

from gyral.contracts.data import StreamDeclared
from gyral.contracts.specs.model import ModelSpec, Served
from gyral.contracts.specs.serving import Placement, Serving
from gyral.contracts.specs.stream import Clock, StreamSpec
from gyral.contracts.versions import ModelDeclared
from gyral.kit.projection import Projection


@dataclass(frozen=True, slots=True)
class Specs:
    """Both projections; a name they lack is looked for once more at the topics' ends."""

    models: Projection[ModelDeclared]
    streams: Projection[StreamDeclared]

    async def model(self, name: str, generation: int) -> ModelSpec:
        """Return a model's spec, of this generation or a later one.

        Raises:
            TimeoutError: Kafka does not have it yet; the caller comes again.
        """
        declared = self.models.get(name)
        if declared is None or declared.generation < generation:
            await self.models.refresh()
            declared = self.models.get(name)
        if declared is None or declared.generation < generation:
            raise TimeoutError(f"model {name}: expected generation {generation}; not there yet")
        return declared.spec

    async def stream(self, name: str) -> StreamSpec:
        """Return a stream's latest spec; raises TimeoutError like `model`."""
        if self.streams.get(name) is None:
            await self.streams.refresh()
        declared = self.streams.get(name)
        if declared is None:
            raise TimeoutError(f"stream {name}: expected it to be declared; not there yet")
        return declared.spec

    def serving(self, model: str) -> Serving | None:
        """Return where a model is to be held by its latest declaration; None: none is known."""
        declared = self.models.get(model)
        return declared.spec.spec.serving if declared else None

    def owning(self) -> dict[str, Serving]:
        """Return the models that are to have runtimes of their own."""
        return {
            declared.name: declared.spec.spec.serving
            for declared in self.models.values()
            if declared.spec.spec.serving.runtime is Placement.OWN
        }

    def of_torch(self) -> frozenset[str]:
        """Return the models whose versions are to be served as torch."""
        return frozenset(
            declared.name
            for declared in self.models.values()
            if declared.spec.spec.train.served is Served.TORCH
        )

    async def event_clock(self, model: str) -> bool:
        """True when the model's time moves by data and markers alone."""
        spec = await self.model(model, 1)
        stream = await self.stream(spec.spec.features.stream)
        return stream.spec.clock is Clock.EVENT

    def ready(self) -> str | None:
        """Answer None once both were read."""
        return self.models.ready() or self.streams.ready()
