"""Open Inference V2 over gRPC: the same questions, keys, caps and log as over HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias, cast

import grpc
import grpc.aio
import msgspec

from gyral.contracts import access
from gyral.gateway.api import metadata, repository
from gyral.gateway.api.contents import answer_of, asked_of
from gyral.gateway.api.front import Addressed, Front, refusals
from gyral.gateway.api.messages import (
    SERVICE,
    IndexRequest,
    InferRequest,
    Messages,
    Named,
    Value,
)
from gyral.gateway.api.refusals import RefusedError
from gyral.kit.access import Caller
from gyral.kit.health import UnstartableError
from gyral.kit.telemetry import Sometimes, get_log
from gyral.kit.timings import Timings

Call: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
_Method: TypeAlias = "Callable[[bytes, Call, Caller], Awaitable[bytes]]"
_Handler: TypeAlias = "Callable[[AsyncIterator[bytes], Call], Awaitable[bytes]]"
_CODES: Mapping[int, grpc.StatusCode] = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}
_MAX_METADATA_BYTES = 16 << 10
_MAX_STREAMS = 256
"""Calls at once over one connection; a client keeps back what is more."""
_NO_COMPRESSION = 1
"""The bit of `identity`: what is small on the wire must not grow here."""
_MESSAGE_S = 20.0
"""How long the message of a caller with a key may take to come."""
_STOP_S = 10.0
_NOBODY = Caller("", "", frozenset())
"""Who calls what needs no key: no model may be asked."""
_GONE = 499
"""What a call counts as whose client went away before its answer."""
log = get_log()


@dataclass(frozen=True, slots=True)
class Servicer:
    """The methods of the service; each takes and returns a message as bytes.

    So a caller without a key, or one too many, is refused before anything is parsed.
    """

    front: Front
    seconds: Timings
    spans: Sometimes
    messages: Messages = field(default_factory=Messages)

    async def server_live(self, _content: bytes, _call: Call, _caller: Caller) -> bytes:
        """Say whether the process must be restarted."""
        return self.messages.write("ServerLiveResponse", live=not self.front.health.dead())

    async def server_ready(self, _content: bytes, _call: Call, _caller: Caller) -> bytes:
        """Say whether work may come here."""
        return self.messages.write("ServerReadyResponse", ready=not self.front.health.unready())

    async def server_metadata(self, _content: bytes, _call: Call, _caller: Caller) -> bytes:
        """Say who answers."""
        return self.messages.write("ServerMetadataResponse", **metadata.SERVER)

    async def model_ready(self, content: bytes, _call: Call, caller: Caller) -> bytes:
        """Say whether a model's question would be answered."""
        to = self._model("ModelReadyRequest", content, caller)
        ready = metadata.is_ready(to, self.front.answering.fleet)
        return self.messages.write("ModelReadyResponse", ready=ready)

    async def model_metadata(self, content: bytes, _call: Call, caller: Caller) -> bytes:
        """Say what to send."""
        to = self._model("ModelMetadataRequest", content, caller)
        about = metadata.about(to)
        return self.messages.write(
            "ModelMetadataResponse",
            name=about.name,
            versions=about.versions,
            platform=about.platform,
            inputs=[_port(each) for each in about.inputs],
            outputs=[_port(each) for each in about.outputs],
        )

    async def model_infer(self, content: bytes, call: Call, caller: Caller) -> bytes:
        """Answer a question."""
        self.front.in_hand += 1
        try:
            return await self._infer(content, call, caller)
        finally:
            self.front.in_hand -= 1

    async def repository_index(self, content: bytes, _call: Call, _caller: Caller) -> bytes:
        """List every version of every route, for operators."""
        asked = cast("IndexRequest", self._read("RepositoryIndexRequest", content))
        if asked.repository_name:
            raise RefusedError(
                400,
                "repository_name: expected none, as there is one repository; found"
                f" {asked.repository_name[:80]!r}",
            )
        listed = await repository.index(self.front, ready=asked.ready)
        models = [msgspec.structs.asdict(each) for each in listed]
        return self.messages.write("RepositoryIndexResponse", models=models)

    async def _infer(self, content: bytes, call: Call, caller: Caller) -> bytes:
        front, given = self.front, _metadata(call)
        front.check_load()
        request = cast("InferRequest", self._read("ModelInferRequest", content))
        version = metadata.version_of(request.model_version)
        to = front.find(request.model_name, version, caller)
        front.check_room(to)
        with self.spans.span("gateway.infer", model=to.plan.route.model):
            expected = front.expected(to)
            asked = asked_of(request, len(content), expected)
            sticky = given.get("x-sticky-key", "").encode()
            said = await front.ask(to, asked, expected, sticky)
        call.set_trailing_metadata((("x-gyral-request-id", said.asking.request_id),))

        def begin(_call: Call) -> None:
            for copy in said.copies:
                copy.begin()

        call.add_done_callback(begin)  # type: ignore[arg-type]
        return answer_of(self.messages, said, raw=bool(request.raw_input_contents))

    def _model(self, message: str, content: bytes, caller: Caller) -> Addressed:
        named = cast("Named", self._read(message, content))
        return self.front.find(named.name, metadata.version_of(named.version), caller)

    def _read(self, message: str, content: bytes) -> object:
        try:
            return self.messages.read(message, content)
        except ValueError as error:
            raise RefusedError(400, str(error)) from error


class RpcServer:
    """Serves the methods on a port of their own."""

    def __init__(
        self, servicer: Servicer, *, host: str, port: int, max_bytes: int, max_calls: int
    ) -> None:
        self._servicer = servicer
        self._max_calls = max_calls
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._max_bytes = max_bytes
        self._server: grpc.aio.Server | None = None
        self.port = port
        """The real one once started, when 0 was asked for."""

    async def start(self) -> None:
        """Return once it accepts calls.

        Raises:
            UnstartableError: the address is taken.
        """
        options = [
            ("grpc.max_receive_message_length", self._max_bytes),
            ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
            ("grpc.max_concurrent_streams", _MAX_STREAMS),
            ("grpc.compression_enabled_algorithms_bitset", _NO_COMPRESSION),
            ("grpc.so_reuseport", 0),
        ]
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=self._max_calls)
        server.add_generic_rpc_handlers((_handlers(self._servicer),))
        try:
            self.port = server.add_insecure_port(self._address)
        except RuntimeError:
            raise UnstartableError(
                f"grpc: expected {self._address} to be free; found it taken. Set"
                " GATEWAY_GRPC_PORT to another port."
            ) from None
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Answer what is being asked, then close."""
        if self._server is not None:
            await self._server.stop(_STOP_S)

    def healthy(self) -> str | None:
        """Answer None while it accepts calls."""
        return None if self._server is not None else "grpc: expected it to listen"


def _handlers(servicer: Servicer) -> grpc.GenericRpcHandler:
    infer, operate = access.Scope.INFER, access.Scope.OPERATE
    methods: Mapping[str, tuple[_Method, access.Scope | None]] = {
        "ServerLive": (servicer.server_live, None),
        "ServerReady": (servicer.server_ready, None),
        "ServerMetadata": (servicer.server_metadata, None),
        "ModelReady": (servicer.model_ready, infer),
        "ModelMetadata": (servicer.model_metadata, infer),
        "ModelInfer": (servicer.model_infer, infer),
        "RepositoryIndex": (servicer.repository_index, operate),
    }
    # As streams, which these look like on the wire, the handler is called before the message.
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            name: grpc.stream_unary_rpc_method_handler(_guarded(servicer, method, scope))
            for name, (method, scope) in methods.items()
        },
    )


def _guarded(servicer: Servicer, method: _Method, scope: access.Scope | None) -> _Handler:
    """Give every error a code and a sentence, and none of them a stack.

    Who has no key is refused before a message is waited for; what needs none reads none.
    """

    async def answer(sent: AsyncIterator[bytes], call: Call) -> bytes:
        began, status, message = time.perf_counter(), HTTPStatus.OK.value, ""
        try:
            with refusals():
                content, caller = b"", _NOBODY
                if scope is not None:
                    given = _metadata(call).get("authorization")
                    caller = servicer.front.check_key(given, scope)
                    content = await _message(sent)
                return await method(content, call, caller)
        except asyncio.CancelledError:
            status = _GONE
            raise
        except RefusedError as refused:
            status, message = refused.status, refused.message
        except Exception:
            log.exception("rpc.failed")
            status = HTTPStatus.INTERNAL_SERVER_ERROR.value
            message = "an error of ours; it was logged"
        finally:
            servicer.seconds.record(time.perf_counter() - began, str(status))
        return await call.abort(_CODES.get(status, grpc.StatusCode.INTERNAL), message)

    return answer


async def _message(sent: AsyncIterator[bytes]) -> bytes:
    """Return the one message of a call."""
    try:
        async with asyncio.timeout(_MESSAGE_S):
            async for content in sent:
                return content
    except TimeoutError:
        raise RefusedError(408, f"expected a message within {_MESSAGE_S:g} s") from None
    raise RefusedError(400, "expected a message; found none")


def _port(port: metadata.Port) -> Mapping[str, Value]:
    return {"name": port.name, "datatype": port.datatype.value, "shape": port.shape}


def _metadata(call: Call) -> Mapping[str, str]:
    return {
        key: value for key, value in call.invocation_metadata() or () if isinstance(value, str)
    }
