"""Validation's quarantine without Kafka: what is refused, put back and sent."""

import uuid
from dataclasses import replace

from pydantic import SecretStr

from gyral.contracts.data import StreamDeclared
from gyral.kit.personal import PersonalKeys
from gyral.kit.replays import ReplayOrder
from gyral.kit.tx import begin
from gyral.testkit.backends import PERSONAL_SECRET
from gyral.testkit.projections import MemoryProjection
from gyral.validation.domain.accounting import Place, Quarantined
from gyral.validation.domain.refusals import Reason, Violation
from gyral.validation.engine.parking import Parking
from gyral.validation.engine.schemas import Schemas
from gyral.validation.handlers.replay import Replay
from gyral.validation.store.accounts import AccountTx
from gyral.validation.store.quarantine import Chosen, Quarantine, QuarantineTx

TOPIC = "data.record.submitted.v1"


def refused(offset, *, reason=Reason.RANGE, **more):
    """A refused row of `orders`."""
    made = Quarantined(
        place=Place(TOPIC, 1, offset),
        violation=Violation(reason, "price: expected at most 5; found 7"),
        kafka_key=b"k",
        value=b'{"n": %d}' % offset,
        headers=(("ce_id", b"e-%d" % offset),),
        stream="orders",
        record_key=f"k-{offset}",
        schema_version=2,
    )
    return replace(made, **more)


class Desk:
    """Validation's tables, and what is done with them."""

    def __init__(self, pool):
        self.pool = pool
        self.found = Quarantine(pool)
        self.streams = MemoryProjection(StreamDeclared)
        keys = PersonalKeys(SecretStr(PERSONAL_SECRET))
        self.parking = Parking(Schemas(self.streams, keys), keys)
        opened = begin(pool, QuarantineTx, service="validation")
        self.replay = Replay(opened, self.parking)

    async def refuse(self, *rows):
        """Refuse rows, as a sink does, and return their ids."""
        async with begin(self.pool, AccountTx, service="validation")() as tx:
            await tx.quarantine(self.parking.parked(rows))
        places = [row.place.offset for row in rows]
        listed = await self.found.page(Chosen(), after=0, limit=1000)
        return [row.id for row in listed if row.offset in places]

    async def put_back(self, order=None, **chosen):
        _, ids = await self.replay.run(Chosen(**chosen), order or an_order())
        return ids

    async def sent(self):
        """Take what would go to Kafka."""
        rows = await self.pool.fetch("DELETE FROM outbox RETURNING *")
        names = [[name.decode() for name in row["header_names"]] for row in rows]
        return [
            (row["partition"], row["key"], row["value"], tuple(zip(n, row["header_values"])))  # noqa: B905
            for n, row in zip(names, rows, strict=True)
        ]

    async def refuse_again(self, offset, copy):
        """Refuse a copy of what was put back."""
        _, key, value, headers = copy
        [id_] = await self.refuse(refused(offset, kafka_key=key, value=value, headers=headers))
        return id_

    async def audit(self):
        rows = await self.pool.fetch("SELECT kind, actor, because, items FROM replay")
        return [tuple(row.values()) for row in rows]


def an_order():
    return ReplayOrder(uuid.uuid4(), "ann key-1", "the range was too narrow")
