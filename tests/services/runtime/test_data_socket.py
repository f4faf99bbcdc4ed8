"""The data socket over TCP: who knows the service key is answered, others cost little."""

import asyncio
import random
import secrets
import socket
import threading
from contextlib import asynccontextmanager, closing, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.contracts.deployment import Datatype, Input, Share
from gyral.gateway.engine.link import Link
from gyral.gateway.engine.probing import missing
from gyral.kit.frames import MAX_PAYLOAD_BYTES, Frame, FrameReader, Kind, packed
from gyral.kit.health import UnstartableError
from gyral.kit.proofs import NONCE_BYTES, PROOF_BYTES, Side, proof
from gyral.kit.sockets import TcpPort, UnixSocket, data_address
from gyral.runtime.engine.shelf import Shelf
from gyral.runtime.jobs import DataServer, Door
from gyral.testkit.processes import free_port

KEY = secrets.token_hex(16)
SHARE = Share(
    version=1,
    weight=100,
    slot="m@1",
    sha256="0" * 64,
    inputs=(Input(name="x", datatype=Datatype.FP64),),
)
OURS = b"g" * NONCE_BYTES


def hello(greeting, key=KEY):
    """Return what a gateway says to a runtime's first frame."""
    return packed(0, Kind.HELLO, OURS + proof(key, Side.GATEWAY, greeting.payload, OURS))


def served(port, **door):
    return DataServer(
        TcpPort("127.0.0.1", port), Shelf(memory_bytes=1 << 20), Door(KEY, **door)
    )


@pytest.fixture
async def port():
    found = free_port()
    server = served(found, wait_s=0.3)
    await server.start()
    yield found
    await server.stop()


@asynccontextmanager
async def linked(port, key):
    link = Link(f"tcp:127.0.0.1:{port}", random.Random(1), key)
    keeping = asyncio.create_task(link.keep())
    try:
        yield link
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


async def up(link):
    stands = asyncio.Event()
    link.on_up(stands.set)
    if not link.up:
        async with asyncio.timeout(10):
            await stands.wait()


def greeted(peer):
    """Return the first frame that a runtime says."""
    reader = FrameReader()
    while not (frames := list(reader.feed(peer.recv(9 + NONCE_BYTES)))):
        pass
    return frames[0]


def answers(port, say):
    """Return every frame a peer gets that says this to the greeting, until it is hung up on."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as peer:
        peer.sendall(say(greeted(peer)))
        frames: list[Frame] = []
        reader = FrameReader()
        try:
            while data := peer.recv(1 << 16):
                frames += reader.feed(data)
        except ConnectionError:
            pass
        return [(frame.kind, frame.payload) for frame in frames]


async def test_a_gateway_with_the_key_is_answered(port):
    async with linked(port, KEY) as link:
        await up(link)
        assert await missing(link, SHARE, 10) == (
            "m@1: expected sha256 000000000000; found nothing"
        )


async def test_a_gateway_with_another_key_comes_again_and_never_counts_as_connected():
    tries, enough = [], asyncio.Event()
    loop = asyncio.get_running_loop()

    class Counting(Door):
        def lets_in(self, peer):
            let_in = super().lets_in(peer)
            tries.append(let_in)
            if len(tries) >= 2:
                loop.call_soon_threadsafe(enough.set)
            return let_in

    port, shelf = free_port(), Shelf(memory_bytes=1 << 20)
    server = DataServer(TcpPort("127.0.0.1", port), shelf, Counting(KEY))
    await server.start()
    stood = []
    async with linked(port, "another") as link, asyncio.timeout(10):
        link.on_up(lambda: stood.append(link))
        await enough.wait()
    await server.stop()
    assert (set(tries), stood) == ({False}, [])


async def test_the_refusal_says_what_to_do(port):
    [(kind, why)] = await asyncio.to_thread(
        answers, port, lambda greeting: hello(greeting, "another key altogether")
    )
    assert kind is Kind.FAILED
    assert why == (
        b"SERVICE_KEY: expected the service key of this runtime; found another. Give the"
        b" gateway the same key as the runtime"
    )
    assert KEY.encode() not in why


async def test_a_gateway_that_comes_before_the_runtime_is_answered_once_it_is_there():
    port = free_port()
    server = served(port)
    async with linked(port, KEY) as link:
        await server.start()
        try:
            await up(link)
            assert await missing(link, SHARE, 10) is not None
        finally:
            await server.stop()


@pytest.mark.parametrize(
    "say",
    [
        lambda _: b"",
        lambda _: b"GET / HTTP/1.1\r\n\r\n",
        lambda greeting: hello(greeting)[:-1],
        lambda greeting: hello(greeting)[:5],
        lambda _: packed(0, Kind.BATCH, b"\x90"),
        lambda _: packed(0, Kind.HELLO, b""),
        lambda _: packed(0, Kind.HELLO, KEY.encode()),
        lambda greeting: packed(0, Kind.HELLO, greeting.payload),
        lambda greeting: packed(0, Kind.HELLO, greeting.payload * 2),
        lambda _: packed(0, Kind.HELLO, b"x" * (NONCE_BYTES + PROOF_BYTES)),
        lambda _: packed(0, Kind.HELLO, b"x" * (NONCE_BYTES + PROOF_BYTES + 1)),
        lambda _: packed(0, Kind.HELLO, b"x" * 100_000),
        lambda greeting: packed(
            0, Kind.HELLO, OURS + proof(KEY, Side.RUNTIME, greeting.payload, OURS)
        ),
        lambda _: MAX_PAYLOAD_BYTES.to_bytes(4, "little") + b"\0\0\0\0\5",
        lambda _: (MAX_PAYLOAD_BYTES + 1).to_bytes(4, "little") + b"\0\0\0\0\5",
    ],
)
async def test_a_peer_without_the_key_gets_no_answer_and_is_hung_up_on(port, say):
    got = await asyncio.to_thread(answers, port, say)
    assert {kind for kind, _ in got} <= {Kind.FAILED}
    async with linked(port, KEY) as link:
        await up(link)


async def test_what_a_gateway_said_once_opens_no_second_time(port):
    said: list[bytes] = []

    def overheard(greeting):
        said.append(hello(greeting))
        return said[0]

    def replayed(_):
        return said[0]

    with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as peer:
        greeting = await asyncio.to_thread(greeted, peer)
        peer.sendall(overheard(greeting))
        let_in = await asyncio.to_thread(greeted, peer)
        assert let_in.payload == proof(KEY, Side.RUNTIME, greeting.payload, OURS)
    assert {kind for kind, _ in await asyncio.to_thread(answers, port, replayed)} == {
        Kind.FAILED
    }


@pytest.mark.parametrize(
    "answer",
    [
        lambda said, _: packed(0, Kind.HELLO, said[NONCE_BYTES:]),
        lambda said, _: packed(0, Kind.HELLO, said),
        lambda said, nonce: packed(
            0, Kind.HELLO, proof("another", Side.RUNTIME, nonce, said[:NONCE_BYTES])
        ),
        lambda _, __: packed(0, Kind.HELLO, b""),
        lambda _, __: packed(0, Kind.HELLO, b"") * 1000,
    ],
)
async def test_who_listens_at_an_address_and_does_not_know_the_key_is_not_told_it_nor_asked(
    answer,
):
    """Addresses of pods that have ended are given to others."""
    heard, told, stood = bytearray(), asyncio.Event(), []
    nonce = secrets.token_bytes(NONCE_BYTES)

    async def stranger(reader, writer):
        writer.write(packed(0, Kind.HELLO, nonce))
        said = await reader.readexactly(9 + NONCE_BYTES + PROOF_BYTES)
        heard.extend(said)
        writer.write(answer(said[9:], nonce))
        with suppress(ConnectionError):
            heard.extend(await reader.read())
        writer.close()
        told.set()

    server = await asyncio.start_server(stranger, "127.0.0.1", 0)
    async with linked(server.sockets[0].getsockname()[1], KEY) as link, asyncio.timeout(10):
        link.on_up(lambda: stood.append(link))
        await told.wait()
    server.close()
    assert stood == []
    assert KEY.encode() not in heard
    assert not any(frame.kind is Kind.BATCH for frame in FrameReader().feed(bytes(heard)))


async def test_a_gateway_that_was_given_no_key_takes_nobody_for_a_runtime():
    heard, told, stood = bytearray(), asyncio.Event(), []

    async def stranger(reader, writer):
        writer.write(packed(0, Kind.HELLO, OURS))
        with suppress(ConnectionError):
            heard.extend(await reader.read())
        writer.close()
        told.set()

    server = await asyncio.start_server(stranger, "127.0.0.1", 0)
    async with linked(server.sockets[0].getsockname()[1], "") as link, asyncio.timeout(10):
        link.on_up(lambda: stood.append(link))
        await told.wait()
    server.close()
    assert (heard, stood) == (b"", [])


@pytest.mark.parametrize("greeting", [b"", b"x" * (NONCE_BYTES + 1)])
async def test_who_greets_otherwise_is_told_nothing(greeting):
    heard, told = bytearray(), asyncio.Event()

    async def stranger(reader, writer):
        writer.write(packed(0, Kind.HELLO, greeting))
        with suppress(ConnectionError):
            heard.extend(await reader.read())
        writer.close()
        told.set()

    server = await asyncio.start_server(stranger, "127.0.0.1", 0)
    async with linked(server.sockets[0].getsockname()[1], KEY), asyncio.timeout(10):
        await told.wait()
    server.close()
    assert heard == b""


def test_whatever_comes_first_only_the_key_opens():
    @given(st.binary(max_size=400))
    def only_the_key(junk):
        ours, theirs = socket.socketpair()
        with closing(ours), closing(theirs):
            theirs.sendall(junk)
            theirs.shutdown(socket.SHUT_WR)
            door = Door(KEY, wait_s=5)
            door.met(ours)
            assert not door.lets_in(ours)

    only_the_key()


def test_the_key_may_come_in_pieces():
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        door = Door(KEY, wait_s=10)
        door.met(ours)

        def trickle():
            for byte in hello(greeted(theirs)):
                theirs.sendall(bytes([byte]))

        sending = threading.Thread(target=trickle)
        sending.start()
        assert door.lets_in(ours)
        sending.join()
        assert ours.gettimeout() is None


def test_a_peer_that_says_nothing_or_trickles_is_let_go_when_its_time_is_over():
    for said in (b"", packed(0, Kind.HELLO, OURS * 2)[:3]):
        ours, theirs = socket.socketpair()
        with closing(ours), closing(theirs):
            theirs.sendall(said)
            door = Door(KEY, wait_s=0.05)
            door.met(ours)
            assert not door.lets_in(ours)


async def test_silent_peers_in_any_number_do_not_keep_a_gateway_out():
    port = free_port()
    server = served(port, strangers=4, wait_s=600)
    await server.start()
    crowd = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(40)]
    try:
        async with linked(port, KEY) as link:
            await up(link)
            assert await missing(link, SHARE, 10) is not None
        # All but the last few were let go long before their time.
        await asyncio.to_thread(greeted, crowd[0])
        assert await asyncio.to_thread(crowd[0].recv, 1) == b""
    finally:
        for peer in crowd:
            peer.close()
        await server.stop()


async def test_a_port_that_is_taken_ends_the_start_with_the_settings_name(port):
    with pytest.raises(UnstartableError, match=r"RUNTIME_LISTEN: .* Address already in use"):
        await served(port).start()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp:10.0.0.7:8109", TcpPort("10.0.0.7", 8109)),
        (
            "tcp:gyral-runtime-shared.gyral.svc:8109",
            TcpPort("gyral-runtime-shared.gyral.svc", 8109),
        ),
        ("tcp:[fd00::7]:8109", TcpPort("fd00::7", 8109)),
        ("tcp:a:65535", TcpPort("a", 65535)),
    ],
)
def test_an_address_over_tcp_is_understood(text, address):
    assert data_address(text) == address


def test_an_address_of_a_file_is_understood(tmp_path):
    assert data_address(f"unix:{tmp_path}/r.sock") == UnixSocket(tmp_path / "r.sock")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "r.sock",
        "unix:r.sock",
        "tcp:host",
        "tcp::8109",
        "tcp:host:",
        "tcp:host:0",
        "tcp:host:65536",
        "tcp:host:99999999999999999999",
        "tcp:host:٨",
        "tcp:fd00::7:8109",
        "tcp:[]:1",
        "http://host:1",
    ],
)
def test_what_is_no_address_is_refused_with_what_one_looks_like(text):
    with pytest.raises(
        ValueError, match=r"expected `unix:<absolute path>` or `tcp:<host>:<port>"
    ):
        data_address(text)
