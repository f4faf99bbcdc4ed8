"""HTTP as every service speaks it: default deny, strict bodies, errors in one shape."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Protocol, TypeVar

import asyncpg
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gyral.contracts.access import Scope
from gyral.kit.access import AccessDenied, Caller, KeyRing
from gyral.kit.bodies import MAX_BODY_BYTES, parse_model, read_body
from gyral.kit.db import INFRASTRUCTURE, is_infrastructure
from gyral.kit.health import Health
from gyral.kit.refusals import Refusal, clip
from gyral.kit.telemetry import get_log
from gyral.kit.tracing import TracedApp

M = TypeVar("M", bound=BaseModel)
log = get_log()
_DENIALS: dict[int, tuple[str, int | None]] = {
    401: ("unauthenticated", None),
    403: ("forbidden", None),
    503: ("unavailable", 1),
}
"""Status of a denial to its code, and when to ask again."""

__all__ = ["Caller", "Refusal", "create_api", "read_model", "scope"]


class Known(Protocol):
    """A projection, as `/v1/projections` shows it."""

    topic: str

    def generations(self) -> Mapping[str, int]:
        """Return the generation of every key."""


class ScopeRequired:
    """A dependency that lets through who has a scope, and tells the route who it is."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request) -> Caller:
        """Check the request's key."""
        ring: KeyRing = request.app.state.keys
        try:
            return ring.check(request.headers.get("authorization"), self.scope)
        except AccessDenied as denied:
            code, again_s = _DENIALS[denied.status]
            refusal = Refusal(denied.status, code, denied.message, retry_after_s=again_s)
            raise refusal from denied


def scope(name: Scope | str) -> Caller:
    """Make the dependency that guards a route, for `Annotated[Caller, ...]`."""
    dependency: Caller = Depends(ScopeRequired(Scope(name)))
    return dependency


async def read_model(request: Request, model: type[M], *, max_bytes: int = MAX_BODY_BYTES) -> M:
    """Return the request's JSON body as a model; raises Refusal as `bodies` does."""
    encoding = request.headers.get("content-encoding")
    return parse_model(
        await read_body(request.stream(), encoding=encoding, max_bytes=max_bytes), model
    )


def create_api(
    service: str,
    routers: Sequence[APIRouter],
    *,
    keys: KeyRing,
    health: Health,
    projections: Sequence[Known] = (),
    trace_one_in: int = 1,
) -> FastAPI:
    """Assemble a service's HTTP application.

    Args:
        service: its name.
        routers: the service's routes; each declares its scope.
        keys: who may call.
        health: behind /health/live and /health/ready, which are public, as is /metrics.
        projections: shown by generation under /v1/projections.
        trace_one_in: 1 traces each request, 100 each hundredth; a request that brings a
            traceparent is always traced.

    Raises:
        ValueError: a route declares no scope, or reads its body without limits.
    """
    app = FastAPI(
        title=f"Gyral {service}",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # Its own would trace every request, three spans each, and log what callers sent.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.keys = keys
    _add_public_routes(app, health)
    for router in (_projections(projections), *routers):
        for route in router.routes:
            if isinstance(route, APIRoute):
                _require_guard(route)
        app.include_router(router)
    _answer_errors(app)
    app.add_middleware(TracedApp, one_in=trace_one_in)
    return app


def _require_guard(route: APIRoute) -> None:
    """Nothing is open, or unbounded, by accident."""
    if not any(isinstance(used.call, ScopeRequired) for used in _dependants(route.dependant)):
        raise ValueError(f"{route.path}: expected a scope; found a route that is open to all")
    if route.body_field is not None:
        raise ValueError(
            f"{route.path}: expected the body through read_model(request, ...);"
            " found a parameter, which would be read without limits"
        )


def _dependants(dependant: Dependant) -> Iterable[Dependant]:
    yield dependant
    for inner in dependant.dependencies:
        yield from _dependants(inner)


def _add_public_routes(app: FastAPI, health: Health) -> None:
    @app.get("/health/live")
    async def live() -> Response:
        """Say whether the process must be restarted."""
        return _verdict(health.dead())

    @app.get("/health/ready")
    async def ready() -> Response:
        """Say whether work may come here."""
        return _verdict(health.unready())

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        """Show the process's metrics to Prometheus."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _projections(projections: Sequence[Known]) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/projections")
    async def generations(
        _caller: Annotated[Caller, scope(Scope.READ)],
    ) -> dict[str, dict[str, int]]:
        """Say which generation of each declared thing this process knows."""
        return {known.topic: dict(known.generations()) for known in projections}

    return router


def _verdict(complaints: Sequence[str]) -> Response:
    status = HTTPStatus.SERVICE_UNAVAILABLE if complaints else HTTPStatus.OK
    return JSONResponse(
        {"status": "failing" if complaints else "ok", "reasons": list(complaints)}, status
    )


def _answer(refusal: Refusal, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(refusal.body, refusal.status, {**refusal.headers, **(headers or {})})


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 - registered for it
    asks = error.status == HTTPStatus.UNAUTHORIZED
    return _answer(error, {"www-authenticate": "Bearer"} if asks else None)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    phrase = HTTPStatus(error.status_code).phrase.lower()
    message = f"{request.method[:20]} {clip(request.url.path)}: {phrase}"
    return _answer(Refusal(error.status_code, phrase.replace(" ", "_"), message), error.headers)


async def _bad_parameter(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    first = error.errors()[0]
    field = clip(".".join(str(part) for part in first["loc"][1:]))
    message = f"{field}: {first['msg'][:300]}; found {clip(repr(first.get('input')))}"
    return _answer(Refusal(422, "invalid", message, field=field))


async def _away(request: Request, error: Exception) -> Response:
    if not is_infrastructure(error):
        raise error
    log.warning("http.waits", path=request.url.path[:200], error=type(error).__name__)
    message = "something this service depends on is away; ask again"
    return _answer(Refusal(503, "unavailable", message, retry_after_s=2))


async def _bug(request: Request, error: Exception) -> Response:
    log.error("http.failed", path=request.url.path[:200], exc_info=error)
    return _answer(Refusal(500, "bug", "an error of ours; it was logged"))


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)


def _answer_errors(app: FastAPI) -> None:
    """Give every error the one shape, and none of them a stack."""
    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        Refusal: _refused,
        HTTPException: _http_error,
        RequestValidationError: _bad_parameter,
        ClientDisconnect: _gone,
        asyncpg.InterfaceError: _away,
        Exception: _bug,
    }
    for kind in INFRASTRUCTURE:
        if issubclass(kind, Exception):
            handlers[kind] = _away
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
