"""Refused records, judged again when somebody asks for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from gyral.kit.tx import Begin
from gyral.validation.engine import outlet
from gyral.validation.engine.outlet import Outlet
from gyral.validation.store.listings import ReplayTx

MOST = 1000


@dataclass(frozen=True, slots=True)
class Replay:
    """Puts records of the quarantine back on their topic."""

    begin: Begin[ReplayTx]
    outlet: Outlet

    async def run(self, stream: str, ids: Sequence[int] | None, *, actor: str) -> list[int]:
        """Send records back and return their ids; each counts as replayed once.

        A process that dies after Kafka has them and before the commit leaves them to be
        replayed again: then the second copy is a duplicate of the first, or refused like it.
        """
        async with self.begin() as tx:
            taken = await tx.take(stream, ids, limit=MOST)
            if not taken:
                return []
            await tx.note(stream, [one.id for one in taken], actor)
            await self.outlet.again(
                [
                    outlet.Original(one.place.topic, one.key, one.value, one.headers)
                    for one in taken
                ]
            )
        return [one.id for one in taken]
