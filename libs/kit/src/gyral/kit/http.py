"""HTTP as every service speaks it: default deny, strict bodies, errors in one shape, health and projections."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import ORJSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gyral.contracts.access import Scope
from gyral.kit.access import AccessDenied, Caller, KeyRing
from gyral.kit.bodies import MAX_BODY_BYTES, parse_model, read_body
from gyral.kit.health import Health
from gyral.kit.projection import Projection
from gyral.kit.refusals import Refusal
from gyral.kit.telemetry import get_log

M = TypeVar("M", bound=BaseModel)
PUBLIC = frozenset({"/health/live", "/health/ready"})
log = get_log()


class ScopeRequired:
    """A dependency that lets a caller through who has a scope, and hands the route who it is."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __call__(self, request: Request) -> Caller:
        """Check the request's key."""
        ring: KeyRing = request.app.state.keys
        try:
            return ring.check(request.headers.get("authorization"), self.scope)
        except AccessDenied as denied:
            code = "unauthenticated" if denied.status == 401 else "forbidden"  # noqa: PLR2004
            raise Refusal(denied.status, code, denied.message) from denied


def scope(name: Scope | str) -> Caller:
    """Return the dependency of a route that needs this scope: `caller: Annotated[Caller, scope("read")]`."""
    dependency: Caller = Depends(ScopeRequired(Scope(name)))
    return dependency


async def read_model(request: Request, model: type[M], *, max_bytes: int = MAX_BODY_BYTES) -> M:
    """Return the request's JSON body as a model; raises Refusal as `bodies` does."""
    body = await read_body(
        request.stream(), encoding=request.headers.get("content-encoding"), max_bytes=max_bytes
    )
    return parse_model(body, model)


def create_api(
    service: str,
    routers: Sequence[APIRouter],
    *,
    keys: KeyRing,
    health: Health,
    projections: Sequence[Projection[Any]] = (),
) -> FastAPI:
    """Assemble a service's HTTP application.

    Raises:
        ValueError: a route declares no scope; nothing is open by accident.
    """
    app = FastAPI(
        title=f"Gyral {service}",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        default_response_class=ORJSONResponse,
    )
    app.state.keys = keys
    app.include_router(_common(health, projections))
    for router in routers:
        app.include_router(router)
    _answer_errors(app)
    for route in app.routes:
        if isinstance(route, APIRoute) and route.path not in PUBLIC and not _scopes(route):
            raise ValueError(f"{route.path}: expected a scope; found a route that is open to all")
    return app


def _scopes(route: APIRoute) -> list[Scope]:
    calls = [dependency.call for dependency in route.dependant.dependencies]
    return [call.scope for call in calls if isinstance(call, ScopeRequired)]


def _common(health: Health, projections: Sequence[Projection[Any]]) -> APIRouter:
    router = APIRouter()

    @router.get("/health/live")
    async def live() -> Response:
        """Say whether the process must be restarted."""
        return _verdict(health.dead())

    @router.get("/health/ready")
    async def ready() -> Response:
        """Say whether work may come here."""
        return _verdict(health.unready())

    @router.get("/v1/projections")
    async def generations(_caller: Annotated[Caller, scope("read")]) -> dict[str, dict[str, int]]:
        """Say which generation of each declared thing this process knows."""
        return {projection.topic: dict(projection.generations()) for projection in projections}

    return router


def _verdict(complaints: list[str]) -> Response:
    status = 503 if complaints else 200
    return ORJSONResponse({"status": "failing" if complaints else "ok", "reasons": complaints}, status)


def _answer_errors(app: FastAPI) -> None:
    """Give every error the one shape, and none of them a stack."""

    async def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)  # noqa: S101
        return ORJSONResponse(error.body, error.status, headers=error.headers)

    async def http_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        return ORJSONResponse(Refusal(error.status_code, "http", str(error.detail)[:200]).body, error.status_code)

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])[:200]
        refusal = Refusal(422, "invalid", f"{field}: {first['msg']}", field=field)
        return ORJSONResponse(refusal.body, refusal.status)

    async def failed(request: Request, error: Exception) -> Response:
        log.error("http.failed", path=request.url.path[:200], exc_info=error)
        return ORJSONResponse(Refusal(500, "bug", "an error of ours; it was logged").body, 500)

    async def gone(_request: Request, _error: Exception) -> Response:
        return Response(status_code=499)

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        Refusal: refused,
        HTTPException: http_error,
        RequestValidationError: invalid,
        ClientDisconnect: gone,
        Exception: failed,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


__all__ = ["Caller", "Refusal", "create_api", "read_model", "scope"]
