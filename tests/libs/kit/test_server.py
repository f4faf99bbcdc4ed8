"""The HTTP server against clients that do not play by the rules."""

import asyncio

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


async def test_two_ways_to_say_the_length_are_refused(server):
    answer = await talk(
        server,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 400")


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
