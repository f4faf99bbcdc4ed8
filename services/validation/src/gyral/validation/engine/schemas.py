"""The compiled declarations of all streams, each compiled once a generation."""

from dataclasses import dataclass, field

from gyral.contracts.data import StreamDeclared
from gyral.kit.projection import Projection
from gyral.validation.domain.refusals import Reason, Violation
from gyral.validation.engine.schema import Schema, UnusableSchemaError


@dataclass(frozen=True, slots=True)
class Schemas:
    """What is declared now, ready to be applied."""

    streams: Projection[StreamDeclared]
    _compiled: dict[str, tuple[int, Schema | Violation]] = field(default_factory=dict)

    def get(self, stream: str) -> Schema | Violation | None:
        """Return a stream's schema, why it has none, or None when it is not declared."""
        declared = self.streams.get(stream)
        if declared is None:
            return None
        known = self._compiled.get(stream)
        if known is None or known[0] != declared.generation:
            known = self._compiled[stream] = (declared.generation, _compile(declared))
        return known[1]

    def names(self) -> list[str]:
        """Return the declared streams' names."""
        return sorted(declared.name for declared in self.streams.values())

    async def refresh(self) -> None:
        """Return once everything declared until now is known."""
        await self.streams.refresh()


def _compile(declared: StreamDeclared) -> Schema | Violation:
    try:
        return Schema(declared)
    except UnusableSchemaError as error:
        return Violation(Reason.UNUSABLE_SCHEMA, str(error)[:500])
