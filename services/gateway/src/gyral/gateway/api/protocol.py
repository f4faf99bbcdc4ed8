"""Predictions over raw ASGI: Open Inference V2, and named fields for those without tensors."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from gyral.contracts import access
from gyral.gateway.api import answers, metadata, plain, repository, requests
from gyral.gateway.api.answers import JSON, Body
from gyral.gateway.api.asked import Asked, Expected
from gyral.gateway.api.bodies import Request, read_body
from gyral.gateway.api.front import Addressed, Front, Said, refusals
from gyral.gateway.api.refusals import RefusedError
from gyral.gateway.api.shadows import Copy
from gyral.kit.telemetry import Sometimes, span
from gyral.kit.timings import Timings


@dataclass(frozen=True, slots=True)
class Form:
    """How a question and its answer are written."""

    read: Callable[[bytes, bytes | None, Expected], Asked]
    write: Callable[[Said], Body]


FORMS: Mapping[str, Form] = {
    "infer": Form(requests.read_request, answers.answer_body),
    "predict": Form(plain.read_fields, plain.answer_body),
}


_MAX_INDEX_BYTES = 4096


class Reply(msgspec.Struct, gc=False):
    """An answer on its way, and what begins once it is gone."""

    status: int
    body: Body
    copies: Sequence[Copy]


@dataclass(slots=True)
class OpenInference:
    """The ASGI application: what `metadata.ours` names is answered here, the rest by `rest`."""

    front: Front
    rest: ASGIApp
    seconds: Timings
    spans: Sometimes
    max_body_bytes: int
    forms: Mapping[str, Form] = field(default_factory=lambda: FORMS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not metadata.ours(scope["path"]):
            await self.rest(scope, receive, send)
            return
        began = time.perf_counter()
        self.front.in_hand += 1
        try:
            request = Request(scope, receive)
            reply = await self._reply(request)
        finally:
            self.front.in_hand -= 1
        if reply is None:
            return
        try:
            await _send(request, send, reply)
        finally:
            for copy in reply.copies:
                copy.begin()
            self.seconds.record(time.perf_counter() - began, str(reply.status))

    async def _reply(self, request: Request) -> Reply | None:
        """Return what to answer, or None when the client has gone."""
        try:
            with refusals():
                return await self._answer(request)
        except RefusedError as refused:
            content = msgspec.json.encode({"error": refused.message})
            return Reply(refused.status, Body(content, JSON, refused.headers), [])

    async def _answer(self, request: Request) -> Reply | None:
        path = request.path
        front = self.front
        if path in metadata.PUBLIC:
            request.expect("GET")
            return _found(*metadata.public(path, front.health))
        if path.startswith(repository.PREFIX):
            return await self._repository(request)
        caller = front.check_key(request.headers.get(b"authorization"))
        target = metadata.target_of(path)
        to = front.find(target.model, target.version, caller)
        form = self.forms.get(target.action)
        if form is None:
            request.expect("GET")
            return _found(*metadata.of_model(to, target.action, front.answering.fleet))
        request.expect("POST")
        front.check_load()
        front.check_room(to)
        if self.spans.turn():
            with span("gateway.infer", model=target.model):
                return await self._infer(request, to, form)
        return await self._infer(request, to, form)

    async def _repository(self, request: Request) -> Reply | None:
        front = self.front
        front.check_key(request.headers.get(b"authorization"), access.Scope.OPERATE)
        request.expect("POST")
        match request.path.removeprefix(repository.PREFIX).split("/"):
            case ["index"]:
                body = await read_body(request, _MAX_INDEX_BYTES)
                if body is None:
                    return None
                ready = repository.only_ready(body)
                return _found(200, await repository.index(front, ready=ready))
            case ["models", model, "load" | "unload"]:
                repository.refuse_change(model)
        raise RefusedError(404, f"expected {repository.PREFIX}index; found another path")

    async def _infer(self, request: Request, to: Addressed, form: Form) -> Reply | None:
        body = await read_body(request, self.max_body_bytes)
        if body is None:
            return None
        front, headers = self.front, request.headers
        expected = front.expected(to)
        asked = form.read(body, headers.get(requests.HEADER), expected)
        said = await front.ask(to, asked, expected, headers.get(b"x-sticky-key", b""))
        written = _written(form, said)
        written.headers.append((b"x-gyral-request-id", said.asking.request_id.encode()))
        return Reply(200, written, said.copies)


def _written(form: Form, said: Said) -> Body:
    """Return the answer's body; copies begin also when there is none, or never would."""
    body: Body | None = None
    try:
        body = form.write(said)
    finally:
        if body is None:
            for copy in said.copies:
                copy.begin()
    return body


def _found(status: int, body: object) -> Reply:
    return Reply(status, Body(msgspec.json.encode(body), JSON, []), [])


async def _send(request: Request, send: Send, reply: Reply) -> None:
    body = reply.body
    headers = [(b"content-type", body.content_type), *body.headers]
    if request.exchange is not None and request.method != "HEAD":
        await request.exchange.answer(reply.status, headers, body.content)
        return
    headers.append((b"content-length", b"%d" % len(body.content)))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body.content})
