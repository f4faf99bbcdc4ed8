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


async def test_stray_line_ends_do_not_hold_a_connection(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"ok")
    writer.write(b"\r\n")
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


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
