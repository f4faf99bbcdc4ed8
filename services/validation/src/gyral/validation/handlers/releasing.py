"""Failed blocks that a person lets count as passed."""

from collections.abc import Sequence
from dataclasses import dataclass

from gyral.contracts.data import RecordSubmitted
from gyral.kit.changes import Changes
from gyral.kit.tx import Begin
from gyral.validation.engine.lake import Lake
from gyral.validation.engine.outlet import Outlet
from gyral.validation.engine.schema import Schema
from gyral.validation.engine.schemas import Schemas
from gyral.validation.store.progress import Step, advance
from gyral.validation.store.sinks import SinkTx
from gyral.validation.store.watching import StaleDeclarationError

MOST = 1000


class UnknownStreamError(ValueError):
    """Nobody declared the stream, or its declaration cannot be applied."""


@dataclass(frozen=True, slots=True)
class Release:
    """Releases blocks and announces, in the same transaction, what may be used now."""

    begin: Begin[SinkTx]
    schemas: Schemas
    outlet: Outlet
    lake: Lake
    changes: Changes

    async def run(
        self, stream: str, ids: Sequence[int] | None, *, actor: str, reason: str
    ) -> list[int]:
        """Release failed blocks, each once, and return their ids; None: the oldest of all.

        Raises:
            UnknownStreamError: the stream is not declared.
        """
        try:
            released = await self._once(stream, ids, actor, reason)
        except StaleDeclarationError:
            await self.schemas.refresh()
            released = await self._once(stream, ids, actor, reason)
        self.changes.notify()
        return released

    async def _once(
        self, stream: str, ids: Sequence[int] | None, actor: str, reason: str
    ) -> list[int]:
        schema = self.schemas.get(stream)
        if not isinstance(schema, Schema):
            raise UnknownStreamError(f"stream: expected a declared one; found {stream!r}")
        partitions = await self.outlet.partitions(RecordSubmitted.topic.name)
        async with self.begin() as tx:
            await tx.locked_progress([stream])
            released = await tx.release(stream, ids, actor=actor, reason=reason, limit=MOST)
            step = Step(schema.time, schema.expected, {})
            await advance(tx, [step], partitions=partitions, lake_uri=self.lake.root)
        return released
