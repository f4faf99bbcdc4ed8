import asyncio
import random
import tempfile
from array import array
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gyral.contracts.deployment import Datatype, Input, Share
from gyral.gateway.engine.batcher import Batcher, ModelFailedError, RuntimeAwayError
from gyral.gateway.engine.link import Link
from gyral.kit.frames import Kind, packed
from gyral.testkit.waiting import until

from .peer import Peer

SHARE = Share(
    version=1,
    weight=100,
    slot="m@1",
    sha256="0" * 64,
    inputs=(Input(name="x", datatype=Datatype.FP64),),
)


@asynccontextmanager
async def connected(*, hang_s=5.0, started=True):
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        peer = Peer(Path(folder, "r.sock"))
        link = Link(f"unix:{peer.path}", random.Random(1))
        keeping = asyncio.create_task(link.keep())
        if started:
            await peer.start()
        try:
            yield peer, Batcher(link, SHARE, hang_s)
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
            if peer.server is not None:
                await peer.kill()


async def ask(batcher, *numbers, within_s=10.0):
    return await batcher.ask([array("d", numbers).tobytes()], len(numbers), within_s)


async def test_requests_of_one_tick_are_asked_together_and_answered_apart():
    async with connected() as (peer, batcher):
        await ask(batcher, 0.5)
        for _ in range(2):
            answers = await asyncio.gather(*(ask(batcher, n / 100, 0.5) for n in range(40)))
            assert answers == [[n / 100, 0.5] for n in range(40)]
        # Who came alone is followed at once, by whoever comes first.
        assert [len(batch) for batch in peer.batches] == [1, 1, 39, 40]


async def test_a_batch_never_holds_more_rows_than_allowed():
    async with connected() as (peer, batcher):
        await asyncio.gather(*(ask(batcher, *[0.1] * 100) for _ in range(7)))
        assert max(sum(batch) for batch in peer.batches) <= 256


async def test_requests_that_are_too_long_together_are_asked_one_by_one():
    async with connected() as (peer, batcher):
        peer.answer = lambda batch: (
            Kind.PROBABILITIES,
            array("d", [len(rows.columns[0][0]) for rows in batch.requests]).tobytes(),
        )
        lengths = [(1 << 20) + number for number in range(20)]
        answers = await asyncio.gather(
            *(batcher.ask([["x" * length]], 1, 10) for length in lengths)
        )
        assert answers == [[length] for length in lengths]


async def test_what_was_asked_before_the_runtime_came_is_answered_when_it_does():
    async with connected(started=False) as (peer, batcher):
        asking = asyncio.create_task(ask(batcher, 0.25))
        await peer.start()
        assert await asking == [0.25]


async def test_a_version_that_is_loaded_a_moment_later_answers_then():
    async with connected() as (peer, batcher):
        replies = iter([(Kind.NOT_LOADED, b"m@1: nothing"), (Kind.NOT_LOADED, b"m@1: nothing")])
        peer.answer = lambda batch: next(replies, None) or Peer.echo(batch)
        assert await ask(batcher, 0.25) == [0.25]


async def test_a_version_that_never_comes_is_given_up_at_the_deadline_with_the_reason():
    async with connected() as (peer, batcher):
        peer.answer = lambda _: (Kind.NOT_LOADED, b"m@1: found nothing")
        with pytest.raises(RuntimeAwayError, match="version 1: m@1: found nothing"):
            await ask(batcher, 0.25, within_s=0.3)


async def test_rows_that_make_the_model_fail_fail_alone():
    def picky(batch):
        poisoned = any(-1.0 in array("d", bytes(rows.columns[0])) for rows in batch.requests)
        return (Kind.FAILED, b"row -1") if poisoned else Peer.echo(batch)

    async with connected() as (peer, batcher):
        peer.answer = picky
        answers = await asyncio.gather(
            *(ask(batcher, n) for n in (0.1, -1.0, 0.3)), return_exceptions=True
        )
        assert answers[0::2] == [[0.1], [0.3]]
        assert isinstance(answers[1], ModelFailedError)


async def test_rows_that_kill_the_runtime_are_given_up_and_the_others_answered():
    def fragile(batch):
        poisoned = any(-1.0 in array("d", bytes(rows.columns[0])) for rows in batch.requests)
        return None if poisoned else Peer.echo(batch)

    async with connected() as (peer, batcher):
        peer.answer = fragile
        answers = await asyncio.gather(
            *(ask(batcher, n) for n in (0.1, -1.0, 0.3)), return_exceptions=True
        )
        assert answers[0::2] == [[0.1], [0.3]]
        assert isinstance(answers[1], ModelFailedError)
        assert sum(batch == [1] for batch in peer.batches) <= 5


async def test_a_runtime_that_falls_silent_is_hung_up_on_and_asked_again():
    async with connected(hang_s=0.2) as (peer, batcher):
        replies = iter(["silence"])
        peer.answer = lambda batch: next(replies, None) or Peer.echo(batch)
        assert await ask(batcher, 0.25) == [0.25]


async def test_a_runtime_that_is_replaced_costs_nothing():
    async with connected() as (peer, batcher):
        assert await ask(batcher, 0.25) == [0.25]
        await peer.kill()
        asking = asyncio.create_task(ask(batcher, 0.5))
        await peer.start()
        assert await asking == [0.5]


async def test_a_version_that_is_slow_to_wake_costs_the_others_no_connection():
    hang_s = 0.2
    async with connected(hang_s=hang_s) as (peer, batcher):
        awake = Batcher(batcher.link, SHARE.model_copy(update={"slot": "m@2"}), hang_s)
        peer.answer = lambda batch: "silence" if batch.slot == "m@1" else Peer.echo(batch)
        asking = asyncio.create_task(ask(batcher, 0.25))
        async with asyncio.timeout(10):
            await peer.asked.wait()
        now = asyncio.get_running_loop().time
        until = now() + 4 * hang_s
        while now() < until:
            assert await ask(awake, 0.5) == [0.5]
        [writer] = peer.connections.values()
        writer.write(packed(1, Kind.PROBABILITIES, array("d", [0.25]).tobytes()))
        assert await asking == [0.25]


async def test_however_many_want_a_runtime_that_is_away_it_is_looked_for_no_more_often():
    met = []

    async def close(_reader, writer):
        met.append(writer)
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    link = Link(f"tcp:127.0.0.1:{server.sockets[0].getsockname()[1]}", random.Random(1), "key")
    keeping = asyncio.create_task(link.keep())
    async with server:
        await until(lambda: len(met) >= 3)
        before = len(met)
        wanted = []

        def want():
            link.hurry()
            wanted.append(len(met))
            asyncio.get_running_loop().call_soon(want)

        want()
        await until(lambda: len(wanted) > 2000)
        assert wanted[2000] - before < 10
        link.rest()
        link.hurry()
        seen = len(met)
        await until(lambda: len(met) > seen)
        keeping.cancel()
        await asyncio.wait([keeping])
