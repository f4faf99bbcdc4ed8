"""A handler whose effects are rows, and which fails on demand."""

from gyral.kit.tx import Tx, begin


class Effects:
    """A handler with an effect in the database, and mishaps on demand."""

    def __init__(self, pool, service):
        self.pool = pool
        self.begin = begin(pool, Tx, service=service)
        self.calls = []
        self.mishaps = {}

    async def handle(self, event):
        self.calls.append((event.thing, event.number))
        async with self.begin() as tx:
            if not await tx.claim(event):
                return
            await tx.conn.execute(
                "INSERT INTO effect (thing, number) VALUES ($1, $2)", event.thing, event.number
            )
            if mishap := self.mishaps.get(event.number):
                raise mishap

    async def done(self):
        rows = await self.pool.fetch("SELECT thing, number FROM effect ORDER BY seq")
        return [(row["thing"], row["number"]) for row in rows]

    async def count(self):
        return await self.pool.fetchval("SELECT count(*) FROM effect")
