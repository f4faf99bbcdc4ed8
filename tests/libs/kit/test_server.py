"""The HTTP server against clients that do not play by the rules."""

import asyncio
import os
import socket

import pytest

from gyral.kit import server as module
from gyral.kit.server import HttpServer


async def app(scope, receive, send):
    await receive()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def server(monkeypatch):
    monkeypatch.setattr(module, "HEADER_TIMEOUT_S", 0.2)
    monkeypatch.setattr(module, "LINGER_TIMEOUT_S", 0.2)
    server = HttpServer(app, host="127.0.0.1", port=0)
    await server.start()
    yield server
    await server.stop()


async def talk(server, *sent):
    """Send pieces and return everything until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for piece in sent:
        writer.write(piece)
        await writer.drain()
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


async def test_a_plain_request_is_answered(server):
    answer = await talk(server, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert server.healthy() is None


@pytest.mark.parametrize("half", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: 1"])
async def test_headers_that_never_end_close_the_connection(half, server):
    assert await talk(server, half) == b""


async def test_the_second_request_of_a_connection_has_a_deadline_too(server):
    whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = await talk(server, whole, b"GET / HTTP/1.1\r\nHost")
    assert answer.count(b"HTTP/1.1 200") == 1


async def test_a_body_that_came_after_its_answer_counts_as_no_headers_of_the_next(
    server, monkeypatch
):
    monkeypatch.setattr(module, "MAX_HEADER_BYTES", 1000)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\nx")
    assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200")
    writer.write(b"x" * 49_999)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_stray_line_ends_do_not_hold_a_connection(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"ok")
    writer.write(b"\r\n")
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_a_connection_is_kept_alive_for_as_long_as_it_asks(monkeypatch):
    monkeypatch.setattr(module, "KEEP_ALIVE_S", 0.2)
    server = HttpServer(app, host="127.0.0.1", port=0)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        async with asyncio.timeout(5):
            now = asyncio.get_running_loop().time
            until = now() + 0.5
            while now() < until:
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await reader.readuntil(b"ok")
            answered_at = now()
            assert await reader.read() == b""
            assert now() - answered_at > 0.15
    finally:
        writer.close()
        await server.stop()


async def test_headers_without_end_are_refused(server, monkeypatch):
    monkeypatch.setattr(module, "HEADER_TIMEOUT_S", 60)
    piece = b"X: " + b"a" * 40_000
    answer = await talk(server, b"GET / HTTP/1.1\r\n", piece, b"\r\n", piece)
    assert b"expected at most 65536 bytes of headers" in answer


async def test_a_body_that_goes_on_after_the_answer_is_cut_off(server):
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
    answer = await talk(server, head, b"never")
    assert answer.endswith(b"ok")


async def test_a_body_that_ends_after_the_answer_leaves_the_connection_usable(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nearly")
    first = await reader.readuntil(b"ok")
    writer.write(b"late" + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    second = await reader.read()
    writer.close()
    assert (first[:12], second[:12]) == (b"HTTP/1.1 200",) * 2


_POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        _POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        _POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        _POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        _POST + b"Content-Length: 3, 3\r\n\r\nabc",
        _POST + b"Content-Length : 3\r\n\r\nabc",
        _POST + b"Transfer-Encoding: identity\r\n\r\nabc",
        _POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        _POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        _POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        _CHUNKED + b"3\nabc\r\n0\r\n\r\n",
        _CHUNKED + b"3\r\nabc\n0\r\n\r\n",
        _CHUNKED + b"3\r\nabc\r\n0\n\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
    ],
)
async def test_what_two_readers_could_see_end_at_different_places_is_refused(request_, server):
    answer = await talk(server, request_)
    statuses = [line for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1")]
    assert statuses[-1] == b"HTTP/1.1 400 Bad Request"


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET /\n\n"]
)
async def test_what_is_no_http_is_refused(line, server):
    answer = await talk(server, line)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")


async def test_a_taken_address_is_named(server):
    second = HttpServer(app, host="127.0.0.1", port=server.port)
    with pytest.raises(OSError, match=f"127.0.0.1:{server.port} to be free"):
        await second.start()


async def ask(reader, writer):
    """Ask once more on a connection and return the answer's head and body."""
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(5):
        return await reader.readuntil(b"\r\n\r\n"), await reader.readexactly(2)


async def test_a_server_that_drains_answers_once_more_and_says_that_it_was_the_last(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head, _ = await ask(reader, writer)
    assert b"connection: close" not in head
    draining = asyncio.create_task(server.drain())
    head, body = await ask(reader, writer)
    assert (b"connection: close" in head, body) == (True, b"ok")
    assert await reader.read() == b""
    await draining
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)
    writer.close()


async def test_silent_connections_are_not_waited_for_for_ever(server, monkeypatch):
    monkeypatch.setattr(module, "DRAIN_S", 0.05)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    async with asyncio.timeout(5):
        await server.drain()
        await server.stop()
    writer.close()


async def test_who_comes_between_two_servers_waits_in_the_socket_they_inherit():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def successor():
            descriptor = os.dup(listener.fileno())
            return HttpServer(app, host="none", port=0, listen_fd=descriptor)

        first, second = successor(), successor()
        await first.start()
        assert first.port == port
        await first.drain()
        await first.stop()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        asking = asyncio.create_task(ask(reader, writer))
        await second.start()
        assert (await asking)[1] == b"ok"
        writer.close()
        await second.stop()


async def test_a_descriptor_that_does_not_listen_is_named():
    with socket.socket() as idle:
        server = HttpServer(app, host="none", port=0, listen_fd=os.dup(idle.fileno()))
        with pytest.raises(OSError, match=r"does not listen\. Unset HTTP_LISTEN_FD"):
            await server.start()
    with pytest.raises(OSError, match=r"Bad file descriptor\. Unset HTTP_LISTEN_FD"):
        await HttpServer(app, host="none", port=0, listen_fd=9999).start()
