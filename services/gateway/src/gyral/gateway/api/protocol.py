"""Open Inference V2 on raw ASGI: who asks, for what, and every way to be told no."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
from opentelemetry.metrics import Histogram
from starlette.types import ASGIApp, Receive, Scope, Send

from gyral.contracts import access
from gyral.contracts.deployment import Share
from gyral.gateway.api import metadata
from gyral.gateway.api.answering import Answering, Asking
from gyral.gateway.api.bodies import Request, read_body
from gyral.gateway.api.entries import answer_body
from gyral.gateway.api.questions import Expected, TooLargeError, understand
from gyral.gateway.api.refusals import RefusedError
from gyral.gateway.api.shadows import Copy
from gyral.gateway.api.tensors import BadRequestError
from gyral.gateway.domain.routing import (
    NoLiveVersionError,
    Plan,
    RouteTable,
    choose,
    names_of,
)
from gyral.gateway.engine.batcher import ModelFailedError, RuntimeAwayError
from gyral.kit.access import AccessDenied, KeyRing
from gyral.kit.health import Health
from gyral.kit.journal import JournalBrokenError, JournalFullError
from gyral.kit.refusals import Refusal
from gyral.kit.telemetry import Sometimes, get_log

_MAX_STICKY_BYTES = 256
log = get_log()


@dataclass(slots=True)
class Reply:
    """An answer on its way, and what begins once it is gone."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]
    copies: list[Copy]


@dataclass(slots=True)
class OpenInference:
    """The ASGI application: `/v2` is answered here, everything else by `rest`."""

    keys: KeyRing
    table: RouteTable
    answering: Answering
    health: Health
    rest: ASGIApp
    seconds: Histogram
    spans: Sometimes
    new_id: Callable[[], str]
    latest_us: Callable[[], int]
    """The latest event time that may be predicted now."""
    max_requests: int
    max_body_bytes: int
    _in_hand: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not f"{scope['path']}/".startswith("/v2/"):
            await self.rest(scope, receive, send)
            return
        began = time.perf_counter()
        self._in_hand += 1
        try:
            reply = await self._reply(Request(scope, receive))
        finally:
            self._in_hand -= 1
        if reply is None:
            return
        try:
            await _send(send, reply)
        finally:
            for copy in reply.copies:
                copy.begin()
            self.seconds.record(time.perf_counter() - began, {"status": reply.status})

    async def _reply(self, request: Request) -> Reply | None:
        """Return what to answer, or None when the client has gone."""
        try:
            with _refusals():
                return await self._answer(request)
        except RefusedError as refused:
            body = msgspec.json.encode({"error": refused.message})
            return Reply(refused.status, body, refused.headers, [])

    async def _answer(self, request: Request) -> Reply | None:
        path = request.path
        if path in metadata.PUBLIC:
            request.expect("GET")
            return _found(*metadata.public(path, self.health))
        if not self.health.started or self.health.stopping:
            raise RefusedError(503, "the gateway is starting or stopping; ask again")
        self.keys.check(request.headers.get(b"authorization"), access.Scope.INFER)
        target = metadata.target_of(path)
        plan = self.table.get(target.model)
        if plan is None:
            raise RefusedError(
                404, f"{target.model[:80]}: expected a model with a route; found none"
            )
        share = _named(plan, target.version)
        if target.action != "infer":
            request.expect("GET")
            return _found(*metadata.of_model(plan, share, target, self.answering.fleet))
        request.expect("POST")
        if self._in_hand > self.max_requests:
            raise RefusedError(429, f"expected at most {self.max_requests} requests at once")
        with self.spans.span("gateway.infer", model=target.model):
            return await self._infer(request, plan, share)

    async def _infer(self, request: Request, plan: Plan, named: Share | None) -> Reply | None:
        body = await read_body(request, self.max_body_bytes)
        if body is None:
            return None
        question = understand(body, self._expected(plan, named))
        asking = Asking(plan, question, self.new_id())
        key = _sticky(request) or question.first_entity_key or asking.request_id
        share = named or choose(plan, key)
        said = await self.answering.answer(asking, share, fixed=named is not None)
        body = answer_body(
            question,
            plan.route.model,
            said.share.version,
            asking.request_id,
            said.probabilities,
        )
        headers = [(b"x-gyral-request-id", asking.request_id.encode())]
        return Reply(200, body, headers, list(self.answering.copies(asking, said)))

    def _expected(self, plan: Plan, named: Share | None) -> Expected:
        return Expected(
            inputs=plan.known_inputs,
            order=plan.order if named is None else names_of(named),
            event_clock=plan.route.event_clock,
            latest_us=self.latest_us(),
        )


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what can go wrong into a status."""
    try:
        yield
    except AccessDenied as error:
        raise RefusedError(error.status, error.message) from error
    except BadRequestError as error:
        raise RefusedError(400, str(error)) from error
    except Refusal as error:
        raise RefusedError(error.status, error.message) from error
    except TooLargeError as error:
        raise RefusedError(413, str(error)) from error
    except (
        RuntimeAwayError,
        NoLiveVersionError,
        JournalFullError,
        JournalBrokenError,
    ) as error:
        raise RefusedError(503, str(error)) from error
    except ModelFailedError as error:
        raise RefusedError(500, f"the model gave no answer: {error}") from error


def _named(plan: Plan, version: int | None) -> Share | None:
    if version is None:
        return None
    share = plan.share_of(version)
    if share is None:
        known = ", ".join(str(each.version) for each in plan.route.shares)
        raise RefusedError(
            404, f"{plan.route.model}: expected one of the versions {known}; found {version}"
        )
    return share


def _sticky(request: Request) -> str:
    header = request.headers.get(b"x-sticky-key", b"")
    if len(header) > _MAX_STICKY_BYTES:
        raise RefusedError(
            400,
            f"x-sticky-key: expected at most {_MAX_STICKY_BYTES} bytes; found {len(header)}",
        )
    return header.decode("latin-1")


def _found(status: int, body: dict[str, object]) -> Reply:
    return Reply(status, msgspec.json.encode(body), [], [])


async def _send(send: Send, reply: Reply) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    start = {"type": "http.response.start", "status": reply.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": reply.body})
