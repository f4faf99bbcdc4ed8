"""Connections that follow the routes, and let go of a runtime that no route names."""

import asyncio
import random
import tempfile
from array import array
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gyral.contracts.deployment import Datatype, Input, RouteChanged, Share
from gyral.gateway.engine.batcher import RuntimeAwayError
from gyral.gateway.engine.fleet import Fleet
from gyral.kit.frames import Kind, packed

from .peer import Peer

SHARE = Share(
    version=1,
    weight=100,
    slot="m@1",
    sha256="0" * 64,
    inputs=(Input(name="x", datatype=Datatype.FP64),),
)


def route(peer, *shares):
    return RouteChanged(
        model="m",
        epoch=1,
        shares=shares or (SHARE,),
        runtime=f"unix:{peer.path}",
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
    deadline = asyncio.get_running_loop().time() + within_s
    return await batcher.ask([array("d", [number]).tobytes()], 1, deadline)


async def hung_up(peer):
    """Return when the gateway has closed every connection to the runtime."""
    async with asyncio.timeout(10):
        await asyncio.gather(*peer.connections)
    return len(peer.connections)


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


async def test_a_runtime_that_has_gone_is_given_up_when_its_last_caller_is():
    async with two_runtimes() as (fleet, old, new):
        fleet.follow([route(old)])
        assert await ask(fleet, route(old), 0.5) == [0.5]
        await old.kill()
        asking = asyncio.create_task(ask(fleet, route(old), 0.5, within_s=0.2))
        await asyncio.wait({asking}, timeout=0)  # let it ask
        fleet.follow([route(new)])
        assert await ask(fleet, route(new), 0.25) == [0.25]
        with pytest.raises(RuntimeAwayError):
            await asking
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
