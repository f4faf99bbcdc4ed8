"""Writers of one lake in a folder, and what Postgres would keep for them."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from deltalake import DeltaTable

from gyral.modelling.contents import Content
from gyral.validation.domain.standing import Change
from gyral.validation.engine.lake import Lake, LakeMovedError
from gyral.validation.engine.ledger import Ledger
from gyral.validation.engine.reading import Span

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR_US = 3_600_000_000
START_US = int(START.timestamp()) * 1_000_000


def rows(*numbers, partition=0, more=()):
    """Rows of these offsets, an hour of event time each."""
    count = len(numbers)
    columns = {
        "id": pa.array([f"{partition}-{number}" for number in numbers], pa.string()),
        "at": pa.array(
            [START + timedelta(hours=number) for number in numbers],
            pa.timestamp("us", "UTC"),
        ),
        **{name: pa.array(["x"] * count, pa.string()) for name in more},
        "_topic": pa.array(["t"] * count, pa.string()),
        "_partition": pa.array([partition] * count, pa.int32()),
        "_offset": pa.array(numbers, pa.int64()),
        "_row": pa.array([0] * count, pa.int32()),
    }
    return pa.table(columns)


async def overtaken(work):
    """Do what may be overtaken, again as its callers do."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await work()
            except LakeMovedError:
                await asyncio.to_thread(int)  # lets the others go on


class House:
    """Writers of one lake in a folder, and what Postgres would keep for them."""

    def __init__(self, root):
        self.root = str(root)
        self.remembered = None
        self.busy = set()
        self.turned_away = 0

    @asynccontextmanager
    async def alone(self, name):
        ours = name not in self.busy
        self.busy.add(name)
        self.turned_away += not ours
        try:
            yield ours
        finally:
            if ours:
                self.busy.remove(name)

    def writer(self, every=1000):
        async def remembered(_name):
            return self.remembered

        lake = Lake(self.root, {}, alone=self.alone, compact_every=every)
        return lake, Ledger(lake, remembered)

    async def append(self, ledger, *numbers, partition=0, generation=1, more=()):
        added = rows(*numbers, partition=partition, more=more)
        change = Change(Content.of_rows(added.to_pylist()), generation)
        span = Span("t", partition, numbers[0], numbers[-1])
        return await overtaken(lambda: ledger.append("s", added, [span], change))

    async def retire(self, ledger, hours):
        before_us = START_US + hours * HOUR_US
        return await overtaken(lambda: ledger.retire("s", "at", before_us))

    def table(self, version=None):
        return DeltaTable(f"{self.root}/s", version=version)
