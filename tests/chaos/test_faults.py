"""Whatever dies, freezes or is away: each row is in the lake once, each reject has its reason.

The seed is printed; GYRAL_CHAOS_SEED repeats a run.
"""

import asyncio
import hashlib
import os
import random
import sys
import time
import uuid
from functools import partial

import pytest

from gyral.testkit.waiting import until
from tests.chaos import journal, rows
from tests.chaos.checker import compare
from tests.chaos.house import House, door_client
from tests.chaos.journal import Journal
from tests.chaos.plans import DOOR, JUDGES, long_plan, short_plan
from tests.chaos.sender import Sender

pytestmark = pytest.mark.live
PARTITIONS = 3
SENDING_S = 600
SHOWN = 20


@pytest.fixture
def seed():
    chosen = int(os.environ.get("GYRAL_CHAOS_SEED") or random.SystemRandom().randrange(2**32))
    say(f"GYRAL_CHAOS_SEED={chosen}")
    return chosen


@pytest.fixture
async def house(tmp_path):
    opened = await asyncio.to_thread(House.opened, tmp_path / "instance")
    yield opened
    await opened.close()


def say(line):
    sys.stderr.write(f"chaos: {line}\n")


async def introduce(sender, key):
    """Declare the stream and the key that the sender comes with, as the registry would."""
    told = {
        "key_id": str(uuid.UUID(int=sender.seed)),
        "name": "upstream",
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "scopes": ["admin"],
    }
    await sender.tell("access.key.changed.v1", told["key_id"], told)
    stream = rows.declaration(sender.stream, 1)
    await sender.tell("data.stream.declared.v1", sender.stream, stream)


async def happen(house, sender, plan):
    """Let each fault of a plan happen while rows are sent."""
    judges = asyncio.create_task(house.start(JUDGES))
    for number, fault in enumerate(plan, start=1):
        due = sender.acknowledged + fault.after
        await until(partial(acknowledged, sender, due), timeout_s=SENDING_S)
        if fault.victim != DOOR:
            await judges
        began = time.monotonic()
        await house.meet(fault, sender)
        took_s = time.monotonic() - began
        say(f"{number}/{len(plan)} {fault.kind} of {fault.victim}: {took_s:.1f} s")
    await judges


def acknowledged(sender, due):
    return sender.acknowledged >= due


async def survive(house, seed, plan, folder, *, windows, **pace):
    """Send through all faults of a plan; return what was sent and what is wrong with it."""
    key = f"key-of-{seed}"
    path = folder / "sent.jsonl"
    with Journal(path) as written:
        async with door_client(house, key) as door:
            brokers = house.backends.kafka_brokers
            sender = Sender(seed, f"rows-{seed}", written, brokers, door, **pace)
            await introduce(sender, key)
            await house.start([DOOR])
            enough = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(sender.run(enough))
                await happen(house, sender, plan)
                await until(lambda: sender.windows >= windows, timeout_s=SENDING_S)
                await sender.mark("2020-01-01T00:00:00Z", PARTITIONS)
                enough.set()
    await house.settled()
    with path.open(encoding="utf-8") as lines:
        sent = journal.read(lines)
    return sent, compare(sent, await house.state(sender.stream))


def proven(sent, findings, seed):
    shown = "\n".join(map(str, findings[:SHOWN]))
    assert not findings, f"seed {seed}: {len(findings)} findings\n{shown}"
    kinds = {row.kind for row in sent.bad.values()}
    say(f"{len(sent.good)} rows, {len(sent.bad)} bad of {len(kinds)} kinds, {dict(sent.tally)}")
    return kinds


@pytest.mark.timeout(240)
async def test_nothing_is_lost_or_doubled_by_five_kills_and_a_zombie(house, seed, tmp_path):
    sent, findings = await survive(
        house, seed, short_plan(seed), tmp_path, windows=12, window_s=2.0, bad_rows=3
    )
    assert proven(sent, findings, seed) >= {*rows.MAKERS, "other content"}


@pytest.mark.long
@pytest.mark.timeout(1500)
async def test_nothing_is_lost_or_doubled_by_every_kind_of_fault(house, seed, tmp_path):
    plan = long_plan(seed)
    assert sum(fault.kills for fault in plan) == 50
    sent, findings = await survive(house, seed, plan, tmp_path, windows=100, window_s=3.0)
    assert proven(sent, findings, seed) >= {*rows.MAKERS, "other content"}
