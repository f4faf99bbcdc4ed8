"""One connection to a runtime that comes back by itself when the runtime does."""

import asyncio
import math
import random
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias, cast

from gyral.kit.backoff import Backoff
from gyral.kit.frames import Frame, FrameError, FrameReader, Kind, packed
from gyral.kit.proofs import NONCE_BYTES, Side, proof, proven
from gyral.kit.sockets import TcpPort, UnixSocket, data_address, prepare
from gyral.kit.telemetry import get_log

_OFTEN_S = 0.5
_RARELY_S = 5.0
Answered: TypeAlias = Callable[[Frame | None], None]
"""Gets the frame that answers a batch, or None: the connection broke first."""
_CONNECT_S = 5.0
"""How long a machine may take to accept a connection and to show that it is a runtime."""
_HELLO_ID = 0
"""Batches are numbered from 1."""
_GREETINGS = 2
"""What a runtime says before it is asked: its nonce, and its proof."""
_NOT_A_RUNTIME = (
    "SERVICE_KEY: expected a runtime that knows it; found that who listens there does not. Give"
    " the runtime the same key as the gateway"
)
log = get_log()


class _Connection(asyncio.Protocol):
    """The gateway's end of one socket; when it breaks, batches under way learn so at once."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._waiting: dict[int, Answered] = {}
        self._greetings: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._sent = 0
        self._time = asyncio.get_running_loop().time
        self.heard_at = self._time()
        """When anything came last."""

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._await_greeting()

    async def greet(self, key: str) -> None:
        """Show that the service key is known here, and be shown that it is known there.

        Raises:
            ConnectionRefusedError: one of the two does not know it.
        """
        if not key:
            raise ConnectionRefusedError("SERVICE_KEY: expected the runtimes' key; found none")
        transport = cast(asyncio.Transport, self._transport)
        prepare(transport.get_extra_info("socket"))
        ours, theirs = secrets.token_bytes(NONCE_BYTES), await self._greeting()
        if len(theirs) != NONCE_BYTES:
            raise ConnectionRefusedError(_NOT_A_RUNTIME)
        shown = proof(key, Side.GATEWAY, theirs, ours)
        transport.write(packed(_HELLO_ID, Kind.HELLO, ours + shown))
        if not proven(await self._greeting(), key, Side.RUNTIME, theirs, ours):
            raise ConnectionRefusedError(_NOT_A_RUNTIME)
        self._waiting.pop(_HELLO_ID, None)

    async def _greeting(self) -> bytes:
        frame = await self._greetings.get()
        if frame is None or frame.kind is not Kind.HELLO:
            said = b"it hung up" if frame is None else frame.payload[:300]
            raise ConnectionRefusedError(said.decode("utf-8", "replace"))
        return frame.payload

    def _await_greeting(self) -> None:
        """Keep what comes first: it may come before anybody asks for it."""
        seen = 0

        def said(frame: Frame | None) -> None:
            nonlocal seen
            seen += 1
            if frame is not None and seen < _GREETINGS:
                self._waiting[_HELLO_ID] = said
            self._greetings.put_nowait(frame)

        self._waiting[_HELLO_ID] = said

    def run(self, payload: bytes, answered: Answered) -> None:
        if self._transport is None or not self.open:
            answered(None)
            return
        self._sent = self._sent + 1 & 0xFFFFFFFF
        frame = packed(self._sent, Kind.BATCH, payload)
        self._waiting[self._sent] = answered
        self._transport.write(frame)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._time()
        try:
            for frame in self._reader.feed(data):
                answered = self._waiting.pop(frame.batch_id, None)
                if answered is not None:
                    answered(frame)
        except FrameError:
            self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - protocol
        self.closed.set()
        failed, self._waiting = self._waiting, {}
        for answered in failed.values():
            answered(None)


class Link:
    """A runtime's address, connected whenever it can be."""

    def __init__(self, address: str, rng: random.Random, service_key: str = "") -> None:
        self.address = address
        self._service_key = service_key
        self._refused = ""
        self._backoff = Backoff(first_s=0.02, limit_s=_OFTEN_S, rng=rng)
        self._connection: _Connection | None = None
        self._on_up: list[Callable[[], None]] = []
        self._hurry = asyncio.Event()

    @property
    def up(self) -> bool:
        """True while a connection stands."""
        return self._connection is not None and self._connection.open

    @property
    def used(self) -> bool:
        """True while somebody wants to know when it stands again."""
        return bool(self._on_up)

    @property
    def heard_at(self) -> float:
        """When anything came over the connection that stands, by the loop's clock."""
        return -math.inf if self._connection is None else self._connection.heard_at

    def on_up(self, react: Callable[[], None]) -> None:
        """Call `react` each time the connection stands again."""
        self._on_up.append(react)

    def forget(self, react: Callable[[], None]) -> None:
        """Call `react` no more."""
        self._on_up.remove(react)

    def run(self, payload: bytes, answered: Answered) -> None:
        """Send one batch; `answered` is called exactly once, later or at once."""
        if self._connection is None:
            answered(None)
        else:
            self._connection.run(payload, answered)

    def rest(self) -> None:
        """Look for the runtime rarely: it is down by intent."""
        self._backoff.limit_s = _RARELY_S

    def hurry(self) -> None:
        """Look for the runtime now, and often: somebody wants it, or it has come.

        Where that is so already, however many want it change nothing.
        """
        if not self.up and self._backoff.limit_s != _OFTEN_S:
            self._backoff.limit_s = _OFTEN_S
            self._backoff.reset()
            self._hurry.set()

    def reset(self) -> None:
        """Give the connection up because the runtime hangs; batches under way fail."""
        if self._connection is not None:
            self._connection.abort()

    async def keep(self) -> None:
        """Connect, and again after each loss, until cancelled."""
        while True:
            connection = await self._connect()
            if connection is None:
                await self._pause()
                continue
            self._backoff.reset()
            self._connection = connection
            try:
                for react in list(self._on_up):
                    react()
                await connection.closed.wait()
            finally:
                self._connection = None
                connection.abort()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.next_s()):
                await self._hurry.wait()
        self._hurry.clear()

    async def _connect(self) -> _Connection | None:
        try:
            async with asyncio.timeout(_CONNECT_S):
                match data_address(self.address):
                    case UnixSocket(path):
                        loop = asyncio.get_running_loop()
                        _, connection = await loop.create_unix_connection(
                            _Connection, str(path)
                        )
                    case TcpPort(host, port):
                        connection = await self._connect_tcp(host, port)
        except (OSError, ValueError):
            return None
        return connection

    async def _connect_tcp(self, host: str, port: int) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, host, port)
        try:
            await connection.greet(self._service_key)
        except BaseException as error:
            connection.abort()
            if isinstance(error, ConnectionRefusedError) and str(error) != self._refused:
                self._refused = str(error)
                log.error(  # noqa: TRY400 - no stack
                    "runtime.refuses", runtime=self.address, reason=self._refused
                )
            raise
        self._refused = ""
        return connection
