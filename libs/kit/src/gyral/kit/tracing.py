"""Spans for HTTP requests, as a plain ASGI layer."""

from opentelemetry.trace import SpanKind
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gyral.kit.telemetry import span


class TracedApp:
    """Opens a server span per request, in the caller's trace; health and metrics have none."""

    def __init__(self, app: ASGIApp, *, one_in: int = 1) -> None:
        self._app = app
        self._one_in = one_in
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"].startswith(("/health", "/metrics")):
            return await self._app(scope, receive, send)
        parent = next(
            (
                value.decode("latin-1")
                for name, value in scope["headers"]
                if name == b"traceparent"
            ),
            None,
        )
        self._count += 1
        if parent is None and self._count % self._one_in:
            return await self._app(scope, receive, send)
        with span(
            f"{scope['method'][:20]} {scope['path'][:100]}",
            parent=parent,
            kind=SpanKind.SERVER,
            http__request__method=scope["method"][:20],
            url__path=scope["path"][:200],
        ) as opened:

            async def noting_status(message: Message) -> None:
                if message["type"] == "http.response.start":
                    opened.set_attribute("http.response.status_code", message["status"])
                await send(message)

            return await self._app(scope, receive, noting_status)
