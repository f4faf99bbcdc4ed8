"""uvicorn inside a service: strict about half-sent requests, stopped by the service alone."""

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_TIMEOUT_S = 10.0
LINGER_TIMEOUT_S = 10.0
"""How long the rest of a body may take whose request has been answered already."""
KEEP_ALIVE_S = 75
"""How long a connection may be silent between an answer and the next request."""
MAX_HEADER_BYTES = 1 << 16
DRAIN_S = 2.0
"""How long kept-alive connections have to ask once more and be told to go."""
_CLOSE = (b"connection", b"close")


class GuardedProtocol(HttpToolsProtocol):
    """Closes connections whose requests do not end in time, and refuses ambiguous lengths.

    A request that arrives whole costs no timer. Until it is answered its body's deadline is
    the reader's, who can say so; what still comes afterwards is the protocol's to cut off.
    """

    _timer: asyncio.TimerHandle | None = None
    _idle_timer: asyncio.TimerHandle | None = None
    _idle_since: float | None = None
    _in_head = False
    _in_body = False
    _answering = False
    _head_bytes = 0
    _head_or_body_ended = False
    """Within the bytes that came last."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the first request's headers a deadline."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._close_after(HEADER_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._disarm()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Give headers that are still under way a deadline and a limit."""
        self._idle_since = None
        self._head_or_body_ended = False
        super().data_received(data)
        if not self._awaits_headers() or self.transport.is_closing():
            return
        if not self._head_or_body_ended:  # else most of it belongs to that
            self._head_bytes += len(data)
        if self._head_bytes > MAX_HEADER_BYTES:
            self.send_400_response(f"expected at most {MAX_HEADER_BYTES} bytes of headers")
        elif self._timer is None:
            self._close_after(HEADER_TIMEOUT_S)

    def on_message_begin(self) -> None:
        """Remember that headers have begun."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Refuse a request whose end two readers could see at different places."""
        self._disarm()
        self._in_head, self._head_bytes = False, 0
        self._head_or_body_ended = True
        self._in_body = self._answering = True
        if b"transfer-encoding" in dict(self.headers):
            codings = [value for name, value in self.headers if name == b"transfer-encoding"]
            plain = self.parser.get_http_version() == "1.1" and len(codings) == 1
            if not plain or codings[0].strip().lower() != b"chunked":
                raise ValueError("expected transfer-encoding once, in HTTP/1.1, as chunked")
            if any(name == b"content-length" for name, _ in self.headers):
                raise ValueError("expected content-length or transfer-encoding; found both")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Forget the deadline of the body."""
        self._in_body = False
        self._head_or_body_ended = True
        self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Give what is still to come of an answered request's body a deadline."""
        self._answering = bool(self.pipeline)
        if self._answering:
            super().on_response_complete()
        else:
            self._rest()
        if self._in_body and not (self._answering or self.transport.is_closing()):
            self._close_after(LINGER_TIMEOUT_S)

    def _rest(self) -> None:
        """Do what the server does without a timer a request: one a connection looks again."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._look)

    def _look(self) -> None:
        """Close a connection that was kept alive for too long."""
        self._idle_timer = None
        if self._idle_since is None:  # the next answer begins it anew
            return
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._idle_timer = self.loop.call_later(left_s, self._look)
        else:
            self.timeout_keep_alive_handler()

    def _awaits_headers(self) -> bool:
        """Return True also after stray line ends, for which the server stops its own clock."""
        return self._in_head or not (self._answering or self._in_body)

    def _close_after(self, timeout_s: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(timeout_s, self._expired)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the service."""
        yield


class HttpServer:
    """Serves one ASGI application on one address.

    Args:
        listen_fd: a listening socket that this process was given; its address counts then.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        listen_fd: int | None = None,
        limit_concurrency: int = 1024,
    ) -> None:
        self._host = host
        self._port = port
        self._listen_fd = listen_fd
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
                timeout_keep_alive=KEEP_ALIVE_S,
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

    async def drain(self) -> None:
        """Take no more connections, and answer those there are with a last answer each.

        Returns when all have gone, or were silent for so long that they may be closed.
        """
        if self._task is None:
            return
        self._server.config.encoded_headers.append(_CLOSE)
        state = self._server.server_state
        state.default_headers = [*state.default_headers, _CLOSE]
        for listening in self._server.servers:
            listening.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while state.connections:  # noqa: ASYNC110 - uvicorn's set
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
        if self._listen_fd is not None:
            return _inherited(self._listen_fd)
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # asyncio turns Nagle's algorithm off for sockets that say they are TCP, and no others.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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


def _inherited(descriptor: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=descriptor)
        listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise OSError(
            error.errno,
            f"http: expected descriptor {descriptor} to be a listening socket; found"
            f" {error.strerror}. Unset HTTP_LISTEN_FD, or pass one on.",
        ) from error
    if not listens:
        raise OSError(
            errno.EINVAL,
            f"http: expected descriptor {descriptor} to be a listening socket; found one that"
            " does not listen. Unset HTTP_LISTEN_FD, or pass one on.",
        )
    listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return listener
