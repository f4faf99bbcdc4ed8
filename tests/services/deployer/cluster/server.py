"""The API server's door: TLS, bearer tokens, the Role's rules, and JSON."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .objects import DEPLOYMENT, KINDS, Kind, Object, Objects, StatusError, scale_of

MERGE = "application/merge-patch+json"
_VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}


@dataclass
class Access:
    """Whose token it is, and what a Role lets them do in one namespace."""

    tokens: set[str]
    namespace: str
    rules: list[Object]

    def check(self, request: Request, kind: Kind, verb: str, resource: str) -> None:
        kind_of, _, token = request.headers.get("authorization", "").partition(" ")
        if kind_of != "Bearer" or token not in self.tokens:
            raise StatusError(401, "Unauthorized", "Unauthorized")
        where = request.path_params["namespace"]
        if where != self.namespace or not any(
            kind.group in rule["apiGroups"]
            and resource in rule["resources"]
            and verb in rule["verbs"]
            for rule in self.rules
        ):
            message = (
                f'{resource} is forbidden: User "system:serviceaccount:gyral:deployer" cannot'
                f' {verb} resource "{resource}" in API group "{kind.group}" in the namespace'
                f' "{where}"'
            )
            raise StatusError(403, "Forbidden", message)


@dataclass
class ApiServer:
    """Answers as the API server does; tests may have it fail or fall silent."""

    objects: Objects
    access: Access
    fail: StatusError | None = None
    refuse: dict[str, StatusError] = field(default_factory=dict)
    """What objects of a name are answered, whoever asks for them by it or writes them."""
    silent: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: requests are read and not answered."""
    before_write: list[Callable[[], Any]] = field(default_factory=list)
    """What others do just before the next change, one at a time."""
    requests: list[str] = field(default_factory=list)

    def app(self) -> Starlette:
        every = ["GET", "POST", "PATCH", "PUT", "DELETE"]
        routes: list[Route] = []
        for kind in KINDS:
            base = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
            path = f"{base}/namespaces/{{namespace}}/{kind.plural}"
            routes += [
                Route(path + suffix, self._answering(kind), methods=every)
                for suffix in ("", "/{name}", "/{name}/{part}")
            ]
        return Starlette(routes=routes)

    def _answering(self, kind: Kind) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            self.requests.append(f"{request.method} {request.url.path}")
            if self.silent.is_set():
                await asyncio.Event().wait()
            try:
                if self.fail is not None:
                    raise self.fail
                return JSONResponse(await self._answer(kind, request))
            except StatusError as error:
                return JSONResponse(error.body, error.code)

        return answer

    def _refuse(self, name: str) -> None:
        if name in self.refuse:
            raise self.refuse[name]

    async def _answer(self, kind: Kind, request: Request) -> Object:  # noqa: PLR0911
        namespace = request.path_params["namespace"]
        name, part = (request.path_params.get(each) for each in ("name", "part"))
        resource = f"{kind.plural}/{part}" if part else kind.plural
        verb = _VERBS.get(request.method, "get" if name else "list")
        self.access.check(request, kind, verb, resource)
        if part not in (None, "scale") or (part and kind is not DEPLOYMENT):
            raise StatusError(
                404, "NotFound", "the server could not find the requested resource"
            )
        body = await _body(request)
        self._refuse(name or body.get("metadata", {}).get("name", ""))
        if verb in _VERBS.values() and self.before_write:
            self.before_write.pop(0)()
        match (verb, name, part):
            case ("list", None, None):
                selector = request.query_params.get("labelSelector", "")
                items = self.objects.list(kind, namespace, selector)
                return {
                    "apiVersion": kind.api_version,
                    "kind": f"{kind.name}List",
                    "metadata": {"resourceVersion": "1"},
                    "items": items,
                }
            case ("get", str(), None):
                return self.objects.get(kind, namespace, name)
            case ("create", None, None):
                return self.objects.create(kind, namespace, body)
            case ("patch", str(), None):
                return self.objects.merge(kind, namespace, name, body)
            case ("delete", str(), None):
                return self.objects.delete(kind, namespace, name)
            case ("get", str(), "scale"):
                return scale_of(self.objects.get(kind, namespace, name))
            case ("patch", str(), "scale"):
                return self.objects.scale(namespace, name, body)
        raise StatusError(405, "MethodNotAllowed", "the server does not allow this method")


async def _body(request: Request) -> Object:
    if request.method not in ("POST", "PATCH"):
        return {}
    kind = request.headers.get("content-type", "")
    expected = MERGE if request.method == "PATCH" else "application/json"
    if kind != expected:
        raise StatusError(415, "UnsupportedMediaType", f"expected {expected}; found {kind}")
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise StatusError(400, "BadRequest", str(error)) from error
    if not isinstance(body, dict):
        raise StatusError(400, "BadRequest", "expected an object")
    return body
