"""uvicorn inside a service: strict about half-sent requests, stopped by the service alone."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_TIMEOUT_S = 10.0


class GuardedProtocol(HttpToolsProtocol):
    """Closes connections whose headers do not arrive in time, and refuses ambiguous lengths."""

    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the first request's headers a deadline."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._disarm()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Give the next request's headers a deadline."""
        self._arm()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Refuse a request that says its length twice: readers disagree on its end."""
        self._disarm()
        names = [name for name, _ in self.headers]
        if b"content-length" in names and b"transfer-encoding" in names:
            raise ValueError("expected content-length or transfer-encoding; found both")
        super().on_headers_complete()

    def _arm(self) -> None:
        self._disarm()
        self._header_timer = self.loop.call_later(HEADER_TIMEOUT_S, self._expired)

    def _disarm(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _expired(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the service."""
        yield


class HttpServer:
    """Serves one ASGI application on one address."""

    def __init__(
        self, app: ASGIApp, *, host: str, port: int, limit_concurrency: int = 1024
    ) -> None:
        self._host = host
        self._port = port
        self._task: asyncio.Task[None] | None = None
        self._server = _Server(
            uvicorn.Config(
                app,
                loop="none",
                http=GuardedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=limit_concurrency,
                backlog=512,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=10,
            )
        )

    @property
    def port(self) -> int:
        """The port it listens on; the real one once started, when 0 was asked for."""
        return self._port

    async def start(self) -> None:
        """Return once it accepts connections.

        Raises:
            OSError: the address is taken; `strerror` names it and what to do.
        """
        listener = self._listen()
        self._port = listener.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name="http")
        while not self._server.started and not self._task.done():  # noqa: ASYNC110 - uvicorn's flag
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Answer what is being asked, then close."""
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.wait({self._task})

    def healthy(self) -> str | None:
        """Answer None while it accepts connections."""
        if self._task is None or self._task.done():
            return "http: expected it to listen; found the server ended"
        return None

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._port))
        except OSError as error:
            listener.close()
            address = f"{self._host}:{self._port}"
            raise OSError(
                error.errno,
                f"http: expected {address} to be free; found {error.strerror}."
                " Set HTTP_PORT to another port.",
            ) from error
        listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
        return listener
