"""HTTP: nothing open by accident, nothing hostile answered with 500."""

import gzip
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Request
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel, Field

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.kit.access import KeyRing
from gyral.kit.health import Health
from gyral.kit.http import Caller, create_api, read_model, scope
from gyral.kit.projection import Projection
from gyral.testkit.projections import MemoryProjection

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Thing(BaseModel):
    name: str = Field(max_length=10)
    size: float = Field(ge=0)


def router():
    routes = APIRouter()

    @routes.post("/v1/things")
    async def make(
        request: Request, caller: Annotated[Caller, scope("ingest")]
    ) -> dict[str, str]:
        thing = await read_model(request, Thing, max_bytes=1000)
        return {"made": thing.name, "by": caller.name}

    @routes.get("/v1/things/{name}")
    async def show(
        name: str, limit: int, _caller: Annotated[Caller, scope("read")]
    ) -> dict[str, int]:
        if name == "bug":
            raise RuntimeError("secret detail")
        if name == "away":
            raise ConnectionRefusedError("postgres")
        return {name: limit}

    return routes


def a_key(secret, *scopes, **more):
    digest = hashlib.sha256(secret.encode()).hexdigest()
    key_id = f"00000000-0000-0000-0000-{digest[:12]}"
    return AccessKeyChanged(
        key_id=key_id, name=secret, sha256=digest, scopes=frozenset(scopes), **more
    )


@pytest.fixture
def keys():
    return MemoryProjection(AccessKeyChanged)


@pytest.fixture
async def ring(keys):
    ring = KeyRing(keys, now=lambda: NOW)
    for key in (
        a_key("writer", Scope.INGEST),
        a_key("reader", Scope.READ),
        a_key("root", Scope.ADMIN),
        a_key("late", Scope.ADMIN, expires_at=NOW - timedelta(seconds=1)),
        a_key("gone", Scope.ADMIN, revoked=True),
    ):
        await keys.put(key)
    return ring


@pytest.fixture
def health():
    return Health(started=True)


@pytest.fixture
async def client(keys, ring, health):
    api = create_api("test", [router()], keys=ring, health=health, projections=[keys])
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def bearer(secret):
    return {"authorization": f"Bearer {secret}"}


async def test_nobody_is_known_or_unknown_before_all_keys_are_read():
    ring = KeyRing(Projection("nowhere:0", AccessKeyChanged), now=lambda: NOW)
    api = create_api("test", [router()], keys=ring, health=Health())
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/v1/projections", headers=bearer("reader"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "unavailable"


async def test_one_request_in_so_many_is_traced_by_one_span_of_ours(keys, ring, monkeypatch):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    api = create_api("test", [router()], keys=ring, health=Health(), trace_one_in=3)
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for _ in range(6):
            await client.get("/v1/things/a?limit=1", headers=bearer("reader"))
    names = [span.name for span in exporter.get_finished_spans()]
    assert names == ["GET /v1/things/a"] * 2


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "unauthenticated"),
        ({"authorization": "Basic abc"}, 401, "unauthenticated"),
        ({"authorization": "Bearer "}, 401, "unauthenticated"),
        (bearer("unknown"), 401, "unauthenticated"),
        (bearer("late"), 401, "unauthenticated"),
        (bearer("gone"), 401, "unauthenticated"),
        (bearer("x" * 5000), 401, "unauthenticated"),
        (bearer("reader"), 403, "forbidden"),
        (bearer("writer"), 200, None),
        (bearer("root"), 200, None),
    ],
)
async def test_only_a_valid_key_with_the_scope_gets_in(client, headers, status, code):
    answer = await client.post("/v1/things", json={"name": "a", "size": 1}, headers=headers)
    assert answer.status_code == status
    assert answer.json().get("error", {}).get("code") == code


async def test_a_revoked_key_stops_working_at_once(client, keys):
    assert (
        await client.get("/v1/things/a?limit=1", headers=bearer("reader"))
    ).status_code == 200
    await keys.put(a_key("reader", Scope.READ, revoked=True, generation=2))
    assert (
        await client.get("/v1/things/a?limit=1", headers=bearer("reader"))
    ).status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"name": "a", "size": NaN}', 400),
        (b'{"name": "a", "size": Infinity}', 400),
        (b"[" * 900, 400),
        (b'{"name": "a", "size": -1}', 422),
        (b'{"name": "a", "size": "1"}', 422),
        (b'{"name": 5, "size": 1}', 422),
        (b'{"name": "a"}', 422),
        (b"[]", 422),
        (b'{"name": "\\u001b[31m\\u0000", "size": ' + b"9" * 500 + b"}", None),
        (b" " * 1001, 413),
    ],
)
async def test_hostile_bodies_get_a_reason_and_no_stack(client, body, status):
    answer = await client.post("/v1/things", content=body, headers=bearer("writer"))
    assert answer.status_code == status or (status is None and 400 <= answer.status_code < 500)
    error = answer.json()["error"]
    assert error["code"]
    assert "Traceback" not in answer.text
    assert "\x1b" not in error["message"]
    assert len(answer.text) < 1000


async def test_a_wrong_field_is_named_with_what_was_found(client):
    answer = await client.post(
        "/v1/things", json={"name": "n" * 5000, "size": 1}, headers=bearer("writer")
    )
    assert answer.status_code == 413
    answer = await client.post(
        "/v1/things", json={"name": "n" * 900, "size": 1}, headers=bearer("writer")
    )
    error = answer.json()["error"]
    assert error["field"] == "name"
    assert "at most 10 characters" in error["message"]
    assert len(error["message"]) < 500


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(b'{"name": "a", "size": 1}'), "gzip", 200),
        (gzip.compress(b'{"name": "a", "size": 1}')[:-9], "gzip", 400),
        (gzip.compress(b"{}") * 2, "gzip", 400),
        (b"not gzip", "gzip", 400),
        (gzip.compress(b" " * 40_000_000)[:1000], "gzip", 400),
        (b"{}", "br", 415),
    ],
    ids=["whole", "cut", "two", "none", "bomb", "brotli"],
)
async def test_packed_bodies_are_inflated_within_limits(client, body, encoding, status):
    headers = {**bearer("writer"), "content-encoding": encoding}
    answer = await client.post("/v1/things", content=body, headers=headers)
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/v1/things", 405, "method_not_allowed"),
        ("GET", "/v1/things/a", 422, "invalid"),
        ("GET", "/v1/things/a?limit=many", 422, "invalid"),
        ("GET", "/v1/things/bug?limit=1", 500, "bug"),
        ("GET", "/v1/things/away?limit=1", 503, "unavailable"),
    ],
)
async def test_every_error_has_one_shape(client, method, path, status, code):
    answer = await client.request(method, path, headers=bearer("root"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "secret detail" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_health_is_public_and_tells_why(client, health):
    assert (await client.get("/health/ready")).json() == {"status": "ok", "reasons": []}
    health.ready.append(lambda: "not yet")
    assert (await client.get("/health/live")).status_code == 200
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["not yet"])
    health.live.append(lambda: "a loop has ended")
    answer = await client.get("/health/live")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["a loop has ended"])


async def test_projections_are_shown_by_generation(client, keys):
    answer = await client.get("/v1/projections", headers=bearer("reader"))
    assert set(answer.json()) == {"access.key.changed.v1"}
    assert set(answer.json()["access.key.changed.v1"].values()) == {1}


def test_a_route_without_a_scope_cannot_be_served(ring, health):
    routes = APIRouter()

    @routes.get("/v1/open")
    async def open_to_all() -> str:
        return "come in"

    with pytest.raises(ValueError, match="/v1/open: expected a scope"):
        create_api("test", [routes], keys=ring, health=health)


def test_a_body_without_limits_cannot_be_served(ring, health):
    routes = APIRouter()

    @routes.post("/v1/unbounded")
    async def unbounded(thing: Thing, _caller: Annotated[Caller, scope("ingest")]) -> str:
        return thing.name

    with pytest.raises(ValueError, match="/v1/unbounded: expected the body through read_model"):
        create_api("test", [routes], keys=ring, health=health)


async def test_metrics_are_public(client):
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
