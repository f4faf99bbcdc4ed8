"""While Kafka is away rows are spooled, and no row that was answered 202 is ever lost."""

import asyncio
import os
import signal
from collections import defaultdict
from contextlib import asynccontextmanager

import httpx
import orjson
import pytest

from gyral.ingestion.store.spool import Kind, Spool, SpoolFullError
from gyral.testkit.waiting import until
from tests.services.ingestion.conftest import open_door
from tests.services.ingestion.hostile import ARROW, TIME, line
from tests.services.ingestion.tables import arrow, table

KNOBS = {"INGESTION_WHEN_KAFKA_IS_AWAY": "spool", "INGESTION_KAFKA_WAIT_S": "0.5"}
ID = "00000000-0000-4000-8000-000000000000"


@asynccontextmanager
async def kafka_away(stack):
    """Let Kafka hang, as a broker does whose machine is swapping."""
    group = os.getpgid(stack.stack.statuses()["kafka"].pid)
    os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGCONT)


class Sender:
    """Sends rows under one key, one after the other, and remembers which were answered 202."""

    def __init__(self, door, key):
        self.key = key
        self.accepted = []
        self._door = door

    async def send(self, numbers):
        for number in numbers:
            try:
                answer = await self._door.post(line(self.key, x=number))
            except httpx.TransportError:
                return  # whether the row was taken is unknown: it may be there or not
            if answer.status_code == 202:
                self.accepted.append(number)


async def each_accepted(count, senders):
    """Return once every sender has had so many rows answered 202."""

    def enough():
        return all(len(sender.accepted) >= count for sender in senders)

    await until(enough, timeout_s=60)


async def found_in(door):
    """Return the numbers of each key in the order in which they first lie in Kafka."""
    numbers: defaultdict[str, dict[float, None]] = defaultdict(dict)
    for row in await door.rows():
        numbers[row["id"]].setdefault(row.get("x"))
    return {key: list(found) for key, found in numbers.items()}


async def all_there(door, senders):
    found = await found_in(door)
    return all(set(sender.accepted) <= set(found.get(sender.key, ())) for sender in senders)


@pytest.mark.live
@pytest.mark.timeout(300)
async def test_no_row_answered_202_is_lost_when_the_process_is_killed(
    stack, postgres_dsn, tmp_path
):
    senders, stream = [], None
    for round_ in range(3):
        async with open_door(stack, postgres_dsn, tmp_path, KNOBS, stream=stream) as door:
            stream = door.stream
            new = [Sender(door, f"k{round_}-{number}") for number in range(8)]
            async with kafka_away(stack):
                sending = asyncio.gather(*[sender.send(range(10_000)) for sender in new])
                await each_accepted(5, new)
                door.process.kill()
                await sending
            senders += new
    async with open_door(stack, postgres_dsn, tmp_path, KNOBS, stream=stream) as door:
        await until(lambda: all_there(door, senders), timeout_s=60)
        found = await found_in(door)
    for sender in senders:
        assert len(sender.accepted) >= 5
        assert found[sender.key] == sorted(found[sender.key])


@pytest.mark.live
@pytest.mark.timeout(300)
async def test_nothing_overtakes_what_is_spooled_when_kafka_comes_back(
    stack, postgres_dsn, tmp_path
):
    async with open_door(stack, postgres_dsn, tmp_path, KNOBS) as door:
        senders = [Sender(door, f"k{number}") for number in range(4)]
        async with kafka_away(stack):
            sending = asyncio.gather(*(sender.send(range(300)) for sender in senders))
            await each_accepted(20, senders)
            columns = await door.post(arrow(table()), content_type=ARROW)
            marker = await door.mark(orjson.dumps({"event_time": TIME}))
            assert (columns.status_code, marker.status_code) == (202, 202)
        await sending
        await until(lambda: all_there(door, senders), timeout_s=60)
        found = await found_in(door)
        for sender in senders:
            assert sender.accepted == list(range(300))
            assert found[sender.key] == sender.accepted
        assert {"a", "b"} <= set(found)
        for partition, records in (await door.records()).items():
            kinds = [dict(record.headers)["ce_type"] for record in records]
            assert b"data.watermark.advanced.v1" in kinds, partition
        spooled = (await door.client.get("/metrics")).text
        assert "gyral_ingestion_spool_bytes" in spooled


@pytest.mark.live
@pytest.mark.timeout(300)
async def test_a_full_spool_refuses_and_keeps_what_it_has(stack, postgres_dsn, tmp_path):
    knobs = {**KNOBS, "INGESTION_SPOOL_BYTES": str(1 << 20)}
    async with open_door(stack, postgres_dsn, tmp_path, knobs) as door:
        kept = []
        async with kafka_away(stack):
            for number in range(20):
                answer = await door.post(line(f"k{number}", s="p" * 100_000))
                if answer.status_code != 202:
                    break
                kept.append(f"k{number}")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            assert 5 <= len(kept) <= 11

        async def drained():
            return set(kept) <= set(await found_in(door))

        await until(drained, timeout_s=60)

        async def takes_again():
            return (await door.post(line("after"))).status_code == 202

        await until(takes_again, timeout_s=60)


@pytest.mark.live
@pytest.mark.timeout(300)
async def test_without_a_spool_rows_are_refused_while_kafka_is_away(
    stack, postgres_dsn, tmp_path
):
    knobs = {"INGESTION_KAFKA_WAIT_S": "0.5"}
    async with open_door(stack, postgres_dsn, tmp_path, knobs) as door:
        async with kafka_away(stack):
            answer = await door.post(line("a"), idempotency_key="again")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")

        async def taken():
            again = await door.post(line("a"), idempotency_key="again")
            return again.status_code == 202

        await until(taken, timeout_s=60)
        assert set(await found_in(door)) == {"a"}


async def test_the_spool_is_bounded_and_outlives_its_process(tmp_path):
    spool = Spool(tmp_path, max_bytes=100)
    await spool.open()
    await spool.append(Kind.ROWS, ID, b"x" * 30)
    await spool.append(Kind.MARKER, ID, b"y" * 10)
    with pytest.raises(SpoolFullError):
        await spool.append(Kind.ROWS, ID, b"z" * 30)
    spool.close()
    again = Spool(tmp_path, max_bytes=100)
    await again.open()
    entries = await again.next()
    assert [(entry.kind, entry.payload) for entry, _ in entries] == [
        (Kind.ROWS, b"x" * 30),
        (Kind.MARKER, b"y" * 10),
    ]
    again.done(entries[0][1])
    assert [entry.kind for entry, _ in await again.next()] == [Kind.MARKER]
    again.done(entries[1][1])
    assert again.pending_bytes == 0
