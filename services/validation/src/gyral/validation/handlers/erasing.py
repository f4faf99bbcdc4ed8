"""A subject is erased: out of the table, its older versions, and what is parked."""

from collections.abc import Callable
from dataclasses import dataclass

from gyral.contracts.data import RecordSubmitted
from gyral.kit.changes import Changes
from gyral.kit.personal import UnreadableError
from gyral.kit.telemetry import get_log
from gyral.kit.tx import Begin
from gyral.validation.domain.accounting import Protection
from gyral.validation.domain.erasing import Order
from gyral.validation.engine.ends import Ends
from gyral.validation.engine.erasing import Owned
from gyral.validation.engine.lake import Lake, LakeMovedError
from gyral.validation.engine.ledger import Ledger
from gyral.validation.engine.outlet import Outlet
from gyral.validation.engine.parking import Parking
from gyral.validation.engine.schema import Schema
from gyral.validation.engine.schemas import Schemas
from gyral.validation.engine.upkeep import upkeep_of
from gyral.validation.store.erasures import Anonymous, Erasures, ErasureTx
from gyral.validation.store.locks import Locks
from gyral.validation.store.lookups import Lookups
from gyral.validation.store.progress import Step, advance
from gyral.validation.store.watching import StaleDeclarationError

TOPIC = RecordSubmitted.topic.name
log = get_log()


class NobodysStreamError(ValueError):
    """Nobody declared the stream, or it has no personal fields."""


@dataclass(frozen=True, slots=True)
class Erasing:
    """Takes orders, and carries out those whose rows have all been judged.

    Each step may be done again after a crash: what is gone is not found a second time, and
    where it lay was written down before it went.
    """

    begin: Begin[ErasureTx]
    erasures: Erasures
    schemas: Schemas
    parking: Parking
    lake: Lake
    ledger: Ledger
    lookups: Lookups
    locks: Locks
    outlet: Outlet
    ends: Ends
    changes: Changes
    sink: str
    crash: Callable[[str], None]

    async def ends_now(self) -> dict[int, int]:
        """Return where the log ends: what an order given now is about lies before."""
        return await self.ends.of(TOPIC, await self.outlet.partitions(TOPIC))

    async def take(self, order: Order) -> None:
        """Take an order, the same one once.

        Raises:
            NobodysStreamError: there is nobody in the stream to erase.
        """
        if self.schemas.personal(order.stream) is None:
            await self.schemas.refresh()
        if self.schemas.personal(order.stream) is None:
            raise NobodysStreamError(
                f"stream: expected a declared one with personal fields; found {order.stream!r}"
            )
        async with self.begin() as tx:
            await tx.note_order(order)

    async def run(self) -> None:
        """Carry out what is due, one order after the other."""
        orders = await self.erasures.open()
        stored = await self.lookups.stored_offsets(self.sink, TOPIC) if orders else {}
        for order in orders:
            if not order.is_due(stored):
                continue
            async with self.locks.alone(upkeep_of(order.stream)) as ours:
                if ours:
                    await self._try(order)

    async def _try(self, order: Order) -> None:
        try:
            await self._erase(order)
        except StaleDeclarationError:
            await self.schemas.refresh()
        except LakeMovedError:
            log.info("erasure.overtaken", erasure=str(order.id), table=order.stream)
        else:
            log.info("erasure.done", erasure=str(order.id), table=order.stream)
            self.changes.notify()

    async def _erase(self, order: Order) -> None:
        schema = self.schemas.get(order.stream)
        if not isinstance(schema, Schema) or schema.subject is None:
            raise StaleDeclarationError(f"{order.stream}: expected a usable declaration")
        owned = Owned(schema.subject, order.subject, order.through)
        standing = await self.ledger.erase(order.stream, owned, order.id)
        self.crash("erasure_after_delete")
        traces = await self.lake.traces(order.stream, owned)
        step = Step(schema.time, schema.expected, {}, standing=standing)
        partitions = await self.outlet.partitions(TOPIC)
        async with self.begin() as tx:
            # Announced before older versions lose anything: the newest one holds what it says.
            await advance(tx, [step], partitions=partitions, lake_uri=self.lake.root)
            await tx.note_traces(order, TOPIC, traces)
            theirs = [
                one.id for one in await tx.anonymous(order) if self._may_be_theirs(one, order)
            ]
            await tx.empty(order, theirs)
        self.crash("erasure_after_note")
        for path in sorted(traces.files):
            await self.lake.scrub(order.stream, path, owned)
            self.crash("erasure_after_file")
        async with self.begin() as tx:
            await tx.end(order)
        self.crash("erasure_after_end")

    def _may_be_theirs(self, one: Anonymous, order: Order) -> bool:
        """Tell whether parked bytes that name nobody in particular must go with a subject's.

        Those from past the door may hold anything; those from behind it only pseudonyms.
        """
        if one.protection is Protection.CLEAR:
            return True
        try:
            plain = self.parking.plain(order.stream, one.place, one.value)
        except UnreadableError:
            return True
        return order.subject.encode() in plain.value
