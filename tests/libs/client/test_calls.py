import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from gyral.client.addresses import Addresses
from gyral.client.answers import Applied
from gyral.client.calls import Platform
from gyral.client.errors import ServiceError, UnreachableError

DONE = b'{"kind":"Model","name":"m","generation":1,"changed":true,"new":"field"}'


def answer(status, body, *headers):
    lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def a_service(*answers):
    """A real server that gives these answers in turn, b"" closing the connection instead."""
    asked: list[bytes] = []
    met: list[asyncio.StreamWriter] = []
    rest = iter(answers)

    async def serve(reader, writer):
        met.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (
                        int(line.partition(b":")[2])
                        for line in head.split(b"\r\n")
                        if line.startswith(b"content-length")
                    ),
                    0,
                )
                asked.append(head + await reader.readexactly(length))
                said = next(rest)
                if not said:
                    break
                writer.write(said)
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        Platform(
            Addresses({"registry": f"http://127.0.0.1:{port}"}, "k3y"), patience_s=5
        ) as platform,
    ):
        yield platform["registry"], asked, met


async def test_an_answer_is_typed_and_tolerates_later_fields():
    async with a_service(answer(200, DONE)) as (registry, asked, _):
        applied = await registry.post("/v1/specs", b"{}", Applied, idempotency_key="once")
    assert (applied.name, applied.generation) == ("m", 1)
    [request] = asked
    assert request.startswith(b"POST /v1/specs HTTP/1.1\r\n")
    assert b"authorization: Bearer k3y\r\n" in request
    assert b"idempotency-key: once\r\n" in request


async def test_a_connection_is_kept():
    async with a_service(answer(200, DONE), answer(200, DONE)) as (registry, asked, met):
        for _ in range(2):
            await registry.get("/v1/x", Applied)
    assert len(asked) == 2
    assert len(met) == 1
    assert not registry.retried


@pytest.mark.parametrize(
    "refusal",
    [
        b"",
        answer(503, b'{"error": "the runtime is away"}'),
        answer(429, b"{}", "retry-after: 0"),
        answer(409, b'{"error": {"code": "in_progress", "message": "m"}}', "retry-after: 0"),
    ],
)
async def test_what_passes_is_sent_again_as_it_was(refusal):
    async with a_service(refusal, answer(200, DONE)) as (registry, asked, _):
        await registry.post("/v1/specs", b"the body", Applied, idempotency_key="once")
    assert len(asked) == 2
    assert asked[0] == asked[1]
    assert registry.retried.total() == 1


async def test_a_service_is_given_the_time_it_asks_for():
    wait = answer(503, b"{}", "retry-after: 3")
    clock = asyncio.get_running_loop().time
    async with a_service(wait, answer(200, DONE)) as (registry, _, _):
        began = clock()
        await registry.get("/v1/x", Applied)
    assert clock() - began >= 3


async def test_a_chunked_answer_is_put_together():
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    parts = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (10, DONE[:10], len(DONE) - 10, DONE[10:])
    async with a_service(head + parts) as (registry, _, _):
        assert (await registry.get("/v1/x", Applied)).changed


async def test_a_listing_is_read_page_after_page_up_to_what_is_wanted():
    first = json.dumps([{"id": number} for number in range(1000)]).encode()
    second = json.dumps([{"id": number} for number in range(1000, 1003)]).encode()
    pages = (answer(200, first), answer(200, second), answer(200, second))
    async with a_service(*pages) as (registry, asked, _):
        every = await registry.listed("/v1/x", "id", params={"stream": "s"})
        few = await registry.listed("/v1/x", "id", 2)
    assert [row["id"] for row in every] == list(range(1003))
    assert len(few) == 2
    lines = [request.partition(b" HTTP")[0] for request in asked]
    assert lines == [
        b"GET /v1/x?stream=s&limit=1000",
        b"GET /v1/x?stream=s&after=999&limit=1000",
        b"GET /v1/x?limit=2",
    ]


async def test_a_refusal_is_told_with_its_code():
    body = b'{"error": {"code": "incompatible", "message": "spec: expected x; found y"}}'
    async with a_service(answer(409, body)) as (registry, _, _):
        with pytest.raises(ServiceError, match="registry answered 409 incompatible: spec: exp"):
            await registry.post("/v1/specs", b"{}", Applied)


@pytest.mark.parametrize("body", [b"<html>\xff</html>", b'"\xff"', b"", b'{"kind": 1}'])
async def test_an_answer_that_is_none_of_gyrals_is_told_as_such(body):
    async with a_service(answer(200, body)) as (registry, _, _):
        with pytest.raises(ServiceError, match="registry answered 200 unreadable: expected an"):
            await registry.get("/v1/x", Applied)


async def test_a_status_that_no_standard_names_is_told_as_it_is():
    async with a_service(answer(520, b"<html>origin is down</html>")) as (registry, _, _):
        with pytest.raises(ServiceError, match="registry answered 520 without a name: <html>"):
            await registry.post("/v1/specs", b"{}", Applied)


async def test_what_is_not_there_is_none():
    body = b'{"error": {"code": "not_found", "message": "m"}}'
    async with a_service(answer(404, body)) as (registry, _, _):
        assert await registry.find("/v1/x", Applied) is None


async def test_a_wrong_key_is_told_what_to_set():
    body = b'{"error": {"code": "unauthenticated", "message": "expected a key"}}'
    async with a_service(answer(401, body)) as (registry, _, _):
        with pytest.raises(ServiceError, match="set GYRAL_API_KEY or GYRAL_HOME"):
            await registry.get("/v1/x", Applied)


async def test_attempts_that_were_not_answered_are_counted_by_what_they_met():
    answers = (b"", answer(503, b"{}"), answer(503, b"{}"), answer(200, DONE))
    async with a_service(*answers) as (registry, _, _):
        await registry.get("/v1/x", Applied)
    assert registry.retried == {"IncompleteReadError": 1, "503": 2}


async def test_a_service_that_stays_away_is_given_up():
    async with Platform(
        Addresses({"registry": "http://127.0.0.1:1"}, "k"), patience_s=0
    ) as platform:
        with pytest.raises(
            UnreachableError, match=r"registry at http://127\.0\.0\.1:1: no answer"
        ):
            await platform["registry"].get("/v1/x", Applied)
