"""A service's HTTP API: health in public, everything else behind a declared scope, every error as JSON."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Protocol, TypeVar

import asyncpg
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from gyral.contracts.access import Scope
from gyral.kit.bodies import ApiError, BodyLimits, clip, parse_model, read_body
from gyral.kit.db import INFRASTRUCTURE, is_infrastructure
from gyral.kit.health import Check, failures
from gyral.kit.keys import Caller, KeyRing, Refused
from gyral.kit.telemetry import get_log
from gyral.kit.tracing import TracedApp

M = TypeVar("M", bound=BaseModel)
log = get_log()


class Known(Protocol):
    """A projection, as `/v1/projections` shows it."""

    topic: str

    def generations(self) -> Mapping[str, int]: ...
    def ready(self) -> str | None: ...


class RequiredScope:
    """A dependency that lets callers with a scope pass and tells the route who calls."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request) -> Caller:
        """Return the caller, or refuse."""
        keys: KeyRing = request.app.state.keys
        return keys.check(request.headers.get("authorization"), self.scope)


def scope(name: Scope | str) -> RequiredScope:
    """Return the dependency that declares a route's scope: `Depends(scope("read"))`."""
    return RequiredScope(Scope(name))


def json_body(model: type[M], limits: BodyLimits | None = None) -> Callable[[Request], Awaitable[M]]:
    """Return the dependency that reads a JSON body as a model: `Annotated[M, Depends(json_body(M))]`."""

    async def read(request: Request) -> M:
        return parse_model(await whole_body(request, limits), model)

    return read


async def whole_body(request: Request, limits: BodyLimits | None = None) -> bytes:
    """Return a request's body within its limits; for routes that parse it themselves."""
    return await read_body(request.stream(), encoding=request.headers.get("content-encoding"), limits=limits)


class UndeclaredScopeError(TypeError):
    """A route says nothing about who may call it, or reads its body without limits."""


class GuardedRoute(APIRoute):
    """A route that cannot be made without a scope."""

    def __init__(self, path: str, endpoint: Callable[..., object], **options: object) -> None:
        super().__init__(path, endpoint, **options)  # type: ignore[arg-type]
        require_guard(self)


def require_guard(route: APIRoute) -> None:
    """Refuse a route without `Depends(scope(...))`, or with a body that FastAPI would read without limits.

    Raises:
        UndeclaredScopeError: says which.
    """
    if not any(isinstance(used.call, RequiredScope) for used in _dependants(route.dependant)):
        raise UndeclaredScopeError(f"{route.path}: expected Depends(scope(...)) in the route; found none")
    if route.body_field is not None:
        raise UndeclaredScopeError(f"{route.path}: expected the body through Depends(json_body(...)); found a parameter")


def create_api(  # noqa: PLR0913 - everything an API is made of
    service: str,
    *,
    keys: KeyRing,
    routers: Sequence[APIRouter] = (),
    live: Sequence[Check] = (),
    ready: Sequence[Check] = (),
    projections: Sequence[Known] = (),
    trace_one_in: int = 1,
) -> FastAPI:
    """Return the API of a service.

    Args:
        service: its name.
        keys: who may call.
        routers: the service's routes; each declares its scope, or this raises.
        live: checks that only a restart can repair, such as a dead loop.
        ready: checks that pass by waiting; projections are added by themselves.
        projections: listed by generation under `/v1/projections`.
        trace_one_in: 1 traces each request, 100 each hundredth; one that brings a traceparent is always traced.

    Raises:
        UndeclaredScopeError: a route declares no scope.
    """
    api = FastAPI(title=f"gyral {service}", docs_url=None, redoc_url=None, openapi_url=None)
    api.state.keys = keys
    _add_public_routes(api, live, (*ready, *(known.ready for known in projections)))
    api.router.route_class = GuardedRoute
    api.include_router(_projections_router(projections))
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                require_guard(route)
        api.include_router(router)
    _add_error_answers(api)

    def traced(app: ASGIApp) -> ASGIApp:
        return TracedApp(app, one_in=trace_one_in)

    api.add_middleware(traced)
    return api


def _dependants(dependant: Dependant) -> Iterable[Dependant]:
    yield dependant
    for inner in dependant.dependencies:
        yield from _dependants(inner)


def _add_public_routes(api: FastAPI, live: Sequence[Check], ready: Sequence[Check]) -> None:
    async def health_live() -> Response:
        return _health(failures(live))

    async def health_ready() -> Response:
        return _health(failures((*live, *ready)))

    async def show_metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    api.add_api_route("/health/live", health_live, methods=["GET"])
    api.add_api_route("/health/ready", health_ready, methods=["GET"])
    api.add_api_route("/metrics", show_metrics, methods=["GET"], include_in_schema=False)


def _projections_router(projections: Sequence[Known]) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/projections", dependencies=[Depends(scope(Scope.READ))])
    async def list_projections() -> dict[str, dict[str, int]]:
        return {known.topic: dict(known.generations()) for known in projections}

    return router


def _health(wrong: Sequence[str]) -> Response:
    status = HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
    return JSONResponse({"status": "failing" if wrong else "ok", "reasons": list(wrong)}, status)


def answer(error: ApiError) -> Response:
    """Return an error as a response."""
    headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    return JSONResponse(error.document(), error.status, headers)


def _add_error_answers(api: FastAPI) -> None:
    async def api_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)  # noqa: S101 - registered for it
        return answer(error)

    async def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)  # noqa: S101 - registered for it
        response = answer(ApiError(error.status, error.code, str(error)))
        if error.status == HTTPStatus.UNAUTHORIZED:
            response.headers["www-authenticate"] = "Bearer"
        return response

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
        phrase = HTTPStatus(error.status_code).phrase.lower()
        message = f"{request.method[:20]} {clip(request.url.path)}: {phrase}"
        response = answer(ApiError(error.status_code, phrase.replace(" ", "_"), message))
        response.headers.update(error.headers or {})
        return response

    async def bad_parameter(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
        first = error.errors()[0]
        field = clip(".".join(str(at) for at in first["loc"][1:]))
        message = f"{field}: {first['msg'][:300]}; found {clip(repr(first.get('input')))}"
        return answer(ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", message, field=field))

    async def away(request: Request, error: Exception) -> Response:
        if not is_infrastructure(error):
            raise error
        log.warning("http.waits", path=request.url.path[:200], error=type(error).__name__)
        message = "something this service depends on is away; try again"
        return answer(ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", message, retry_after_s=2))

    async def bug(_request: Request, _error: Exception) -> Response:
        message = "the service failed; the failure is in its log"
        return answer(ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", message))

    api.add_exception_handler(ApiError, api_error)
    api.add_exception_handler(Refused, refused)
    api.add_exception_handler(HTTPException, http_error)
    api.add_exception_handler(RequestValidationError, bad_parameter)
    for kind in (*INFRASTRUCTURE, asyncpg.InterfaceError):
        if issubclass(kind, Exception):
            api.add_exception_handler(kind, away)
    api.add_exception_handler(Exception, bug)
