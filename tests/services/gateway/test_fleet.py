"""Connections that follow the routes, and let go of a runtime that no route names."""

import asyncio
import random
import tempfile
from array import array
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gyral.contracts.deployment import Datatype, Input, RouteChanged, Share
from gyral.gateway.engine.crowding import CrowdedError, Room
from gyral.gateway.engine.fleet import Fleet
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


def route(peer, *shares, beside=()):
    return RouteChanged(
        model="m",
        epoch=1,
        shares=shares or (SHARE,),
        runtime=f"unix:{peer.path}",
        replicas=tuple(f"unix:{each.path}" for each in beside),
        event_clock=False,
    )


@asynccontextmanager
async def two_runtimes():
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        old, new = Peer(Path(folder, "old")), Peer(Path(folder, "new"))
        fleet = Fleet(random.Random(1), hang_s=5)
        await old.start()
        await new.start()
        try:
            yield fleet, old, new
        finally:
            await fleet.stop()
            for peer in (old, new):
                await peer.kill()


async def ask(fleet, route, number, *, within_s=10.0, shadow=False):
    batcher = fleet.batcher(route, route.shares[0], shadow=shadow)
    return await batcher.ask([array("d", [number]).tobytes()], 1, within_s)


async def hung_up(peer):
    """Return when the gateway has closed every connection to the runtime."""
    async with asyncio.timeout(10):
        await asyncio.gather(*peer.connections)
    return len(peer.connections)


async def test_a_version_keeps_its_queue_for_as_long_as_it_reads_the_same_inputs():
    async with two_runtimes() as (fleet, old, _):
        lighter = SHARE.model_copy(update={"weight": 5})
        renamed = Share.model_validate(
            {**SHARE.model_dump(), "inputs": [{"name": "y", "datatype": "FP64"}]}
        )
        queues = [
            fleet.batcher(route(old, share), share, shadow=False)
            for share in (SHARE, lighter, renamed)
        ]
        assert queues[0] is queues[1]
        assert queues[2] is not queues[1]
        assert await ask(fleet, route(old, renamed), 7) == [7]


async def test_connections_to_a_runtime_that_no_route_names_are_closed():
    async with two_runtimes() as (fleet, old, new):
        fleet.follow([route(old)])
        assert await ask(fleet, route(old), 0.5) == [0.5]
        assert await ask(fleet, route(old), 0.5, shadow=True) == [0.5]
        fleet.follow([route(new)])
        assert await hung_up(old) == 2
        assert await ask(fleet, route(new), 0.25) == [0.25]
        assert (fleet.unreachable(), fleet.healthy()) == (None, None)


async def test_a_connection_that_was_never_used_is_closed_too():
    async with two_runtimes() as (fleet, old, _):
        fleet.follow([route(old)])
        await old.met.wait()
        fleet.follow([])
        assert await hung_up(old) == 1


async def test_requests_under_way_end_before_their_connection_does():
    async with two_runtimes() as (fleet, old, new):
        fleet.follow([route(old)])
        old.answer = lambda _: "silence"
        asking = asyncio.create_task(ask(fleet, route(old), 0.5))
        await old.asked.wait()
        fleet.follow([route(new)])
        assert await ask(fleet, route(new), 0.25) == [0.25]
        [(serving, writer)] = old.connections.items()
        assert not serving.done()
        writer.write(packed(1, Kind.PROBABILITIES, array("d", [0.5]).tobytes()))
        assert await asking == [0.5]
        assert await hung_up(old) == 1


async def test_a_request_that_began_under_the_old_route_is_answered_and_leaves_nothing_open():
    async with two_runtimes() as (fleet, old, new):
        fleet.follow([route(old)])
        fleet.follow([route(new)])
        assert await ask(fleet, route(old), 0.5) == [0.5]
        assert await hung_up(old) >= 1
        assert fleet.unreachable() is None


async def test_a_runtime_that_has_gone_is_given_up_and_its_callers_are_answered_elsewhere():
    async with two_runtimes() as (fleet, old, new):
        fleet.follow([route(old)])
        assert await ask(fleet, route(old), 0.5) == [0.5]
        await old.kill()
        asking = asyncio.create_task(ask(fleet, route(old), 0.5))
        await asyncio.wait({asking}, timeout=0)  # let it ask
        fleet.follow([route(new)])
        assert await ask(fleet, route(new), 0.25) == [0.25]
        assert await asking == [0.5]
        assert fleet.unreachable() is None


async def test_a_route_that_comes_back_keeps_the_queue_that_was_on_its_way_out():
    async with two_runtimes() as (fleet, old, new):
        fleet.follow([route(old)])
        old.answer = lambda _: "silence"
        asking = asyncio.create_task(ask(fleet, route(old), 0.5))
        await old.asked.wait()
        fleet.follow([route(new)])
        fleet.follow([route(old)])
        [(serving, writer)] = old.connections.items()
        writer.write(packed(1, Kind.PROBABILITIES, array("d", [0.5]).tobytes()))
        assert await asking == [0.5]
        old.answer = Peer.echo
        assert await ask(fleet, route(old), 0.75) == [0.75]
        assert not serving.done()


async def both_met(fleet, both, *peers):
    """Return once either runtime is connected and has been asked."""
    fleet.follow([both])
    async with asyncio.timeout(10):
        for peer in peers:
            await peer.met.wait()
    await until(lambda: fleet.unreachable() is None)


async def test_what_a_runtime_had_in_hand_when_it_died_is_answered_by_another():
    async with two_runtimes() as (fleet, first, second):
        both = route(first, beside=[second])
        await both_met(fleet, both, first, second)
        first.answer = second.answer = lambda _: "silence"
        asking = [asyncio.create_task(ask(fleet, both, number / 4)) for number in (1, 2)]
        async with asyncio.timeout(10):
            await asyncio.gather(first.asked.wait(), second.asked.wait())
        [writer] = second.connections.values()
        writer.write(packed(1, Kind.PROBABILITIES, array("d", [0.5]).tobytes()))
        second.answer = second.echo
        await first.kill()
        assert await asyncio.gather(*asking) == [[0.25], [0.5]]
        assert fleet.unreachable() is None


async def test_a_runtime_that_is_away_is_not_asked_while_another_is_there():
    async with two_runtimes() as (fleet, first, second):
        both = route(first, beside=[second])
        await both_met(fleet, both, first, second)
        await first.kill()
        for number in (1, 2, 3):
            assert await ask(fleet, both, number / 4, within_s=5) == [number / 4]
        await second.kill()
        await until(lambda: fleet.unreachable() is not None)
        assert fleet.unreachable() == (
            "runtime: expected one connected for each of 1 routes; found none for 1"
        )


async def test_who_waits_for_a_runtime_that_is_away_is_answered_by_the_first_that_comes():
    async with two_runtimes() as (fleet, first, second):
        both = route(first, beside=[second])
        await both_met(fleet, both, first, second)
        await first.kill()
        await second.kill()
        await until(lambda: fleet.unreachable() is not None)
        asking = [asyncio.create_task(ask(fleet, both, number / 4)) for number in (1, 2)]
        await second.start()
        assert await asyncio.gather(*asking) == [[0.25], [0.5]]


async def test_a_version_that_one_runtime_lacks_is_answered_by_another():
    async with two_runtimes() as (fleet, first, second):
        both = route(first, beside=[second])
        await both_met(fleet, both, first, second)
        first.answer = lambda _: (Kind.NOT_LOADED, b"nothing")
        answers = await asyncio.gather(*(ask(fleet, both, number / 4) for number in range(4)))
        assert answers == [[0.0], [0.25], [0.5], [0.75]]
        assert first.batches


async def test_a_runtime_that_lacks_a_version_is_not_asked_again_at_once():
    async with two_runtimes() as (fleet, first, second):
        both = route(first, beside=[second])
        await both_met(fleet, both, first, second)
        first.answer = lambda _: (Kind.NOT_LOADED, b"nothing")
        for number in range(20):
            assert await ask(fleet, both, number / 32) == [number / 32]
        assert 1 <= len(first.batches) < 10


def sleeping(peer):
    return route(peer).model_copy(update={"dormant": True})


async def test_a_model_that_sleeps_by_intent_makes_no_gateway_unready():
    async with two_runtimes() as (fleet, old, _):
        await old.kill()
        fleet.follow([sleeping(old)])
        assert fleet.unreachable() is None
        fleet.follow([route(old)])
        assert "found none for 1" in fleet.unreachable()


async def test_a_request_that_finds_no_runtime_says_so_at_once_and_is_answered_once_one_is_up():
    async with two_runtimes() as (fleet, old, _):
        missed: list[str] = []
        fleet.away = missed.append
        await old.kill()
        fleet.follow([sleeping(old)])
        asking = [asyncio.create_task(ask(fleet, sleeping(old), 0.5)) for _ in range(3)]
        await until(lambda: len(missed) == 3)
        await until(lambda: fleet.collect().get("m") is not None)
        told = fleet.collect()["m"]
        assert (told.requests, told.waiting) == (0, 3)
        await old.start()
        assert await asyncio.gather(*asking) == [[0.5]] * 3
        assert set(missed) == {"m"}
        told = fleet.collect()["m"]
        assert (told.requests, told.answered, told.queued_s) == (0, 3, 0.0)  # it is no queue


async def test_what_is_asked_is_counted_once_by_model_and_shadows_are_not():
    async with two_runtimes() as (fleet, old, new):
        both = route(old, beside=[new])
        fleet.follow([both])
        for number in range(4):
            await ask(fleet, both, number)
        await ask(fleet, both, 0.5, shadow=True)
        told = fleet.collect()["m"]
        assert (told.requests, told.refused, told.answered, told.waiting) == (4, 0, 4, 0)
        assert 0 <= told.queued_s <= 4 * told.queue_max_s
        assert fleet.collect() == {}


@pytest.mark.parametrize("at_first", [None, (Kind.NOT_LOADED, b"nothing")])
async def test_a_request_that_is_asked_again_has_waited_once_and_for_no_longer_than_others_do(
    at_first,
):
    """A link that breaks, or a version that is being loaded, is no pressure."""
    async with two_runtimes() as (fleet, old, _):
        replies = iter([at_first, at_first])
        old.answer = lambda batch: next(replies, Peer.echo(batch))
        fleet.follow([route(old)])
        assert await ask(fleet, route(old), 0.5) == [0.5]
        told = fleet.collect()["m"]
        assert (len(old.batches), told.requests, told.answered) == (3, 1, 1)
        assert told.queued_s == told.queue_max_s == 0.0


async def test_what_another_runtime_takes_over_is_no_queue_of_its_own():
    async with two_runtimes() as (fleet, first, second):
        first.answer = lambda _: (Kind.NOT_LOADED, b"nothing")
        both = route(first, beside=[second])
        fleet.follow([both])
        await asyncio.gather(first.met.wait(), second.met.wait())
        await ask(fleet, both, 0.25)  # both queues are there, and the second was asked
        fleet.collect()
        assert await ask(fleet, route(first), 0.5) == [0.5]
        told = fleet.collect()["m"]
        assert (told.answered, first.batches[-1]) == (1, [1])
        assert told.queue_max_s < 0.1  # a tenth of a second is waited before it is moved


async def test_a_refused_request_is_counted_as_refused():
    fleet = Fleet(random.Random(1), hang_s=5, room=Room(most=1))
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        peer = Peer(Path(folder, "r"))
        peer.answer = lambda _: "silence"
        await peer.start()
        fleet.follow([route(peer)])
        asking = asyncio.create_task(ask(fleet, route(peer), 0.5))
        await peer.asked.wait()
        with pytest.raises(CrowdedError):
            await ask(fleet, route(peer), 0.5)
        assert fleet.collect()["m"].refused == 1
        asking.cancel()
        await fleet.stop()
        await peer.kill()


async def test_who_waits_at_an_address_that_leads_nowhere_goes_on_at_the_one_named_next():
    """As in a cluster, where a sleeping group's address is a name and a pod's is a number."""
    async with two_runtimes() as (fleet, old, new):
        await old.kill()
        fleet.follow([route(old)])
        asking = asyncio.create_task(ask(fleet, route(old), 0.5))
        await asyncio.wait([asking], timeout=0)
        fleet.follow([route(new)])
        assert await asking == [0.5]
        assert new.batches == [[1]]
        assert fleet.unreachable() is None
