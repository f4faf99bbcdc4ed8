"""Requests at their own time, whether or not the ones before were answered: an open loop."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast
from urllib.parse import urlsplit

from gyral.testkit.waiting import until
from tests.bench.pacing import now_s, reach
from tests.bench.serving.load import Target

_TICK_S = 0.001
_DRAIN_S = 30.0
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass(frozen=True, slots=True)
class Answered:
    """How one request ended."""

    status: int
    """0: the connection broke."""
    says_when: bool
    """True when it has Retry-After."""
    seconds: float
    """From when it was due, a wait for a connection included."""


class Pool:
    """Connections that are kept, each with at most one request."""

    def __init__(self, target: Target, size: int) -> None:
        at = urlsplit(target.url)
        headers = {"host": at.netloc, **target.headers, "content-length": len(target.body)}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.request = f"POST {at.path} HTTP/1.1\r\n{head}\r\n".encode() + target.body
        self._address = at.hostname or "", at.port or 0
        self._size = size
        self._idle: list[_Connection] = []
        self._due: deque[tuple[float, list[Answered]]] = deque()
        self._all: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._closing = False

    async def __aenter__(self) -> Self:
        """Open all connections."""
        for _ in range(self._size):
            self._idle.append(await self._open())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close them."""
        self._closing = True
        for connection in list(self._all):
            connection.close()
        await asyncio.gather(*self._opening)

    def ask(self, due_s: float, answers: list[Answered]) -> None:
        """Send a request as soon as a connection is idle; note in `answers` how it ended."""
        if self._idle:
            self._idle.pop().ask(due_s, answers)
        else:
            self._due.append((due_s, answers))

    def back(self, connection: "_Connection") -> None:
        """Take a connection that is idle again."""
        if self._due:
            connection.ask(*self._due.popleft())
        else:
            self._idle.append(connection)

    def gone(self, connection: "_Connection") -> None:
        """Open another connection for one that the server closed, as it does to silent ones."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._closing:
            opening = asyncio.create_task(self._reopen())
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _reopen(self) -> None:
        self.back(await self._open())

    async def _open(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self), *self._address)
        self._all.add(connection)
        return connection


class _Connection(asyncio.Protocol):
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._asked: tuple[float, list[Answered]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def ask(self, due_s: float, answers: list[Answered]) -> None:
        self._asked = due_s, answers
        if self._transport is not None:
            self._transport.write(self._pool.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(_HEAD_END)
        if not found:
            return
        lowered = head.lower()
        length = int(lowered.partition(_LENGTH)[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._received = b""
        self._answered(int(head[9:12]), says_when=b"\r\nretry-after:" in lowered)
        self._pool.back(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - protocol
        self._answered(0, says_when=False)
        self._pool.gone(self)

    def _answered(self, status: int, *, says_when: bool) -> None:
        if self._asked is not None:
            (due_s, answers), self._asked = self._asked, None
            answers.append(Answered(status, says_when, time.perf_counter() - due_s))


async def at_rate(pool: Pool, rate: float, seconds: float) -> Sequence[Answered]:
    """Ask so often a second, evenly, and return how all requests of it ended."""
    answers: list[Answered] = []
    began = time.perf_counter()
    asked = 0
    while asked < round(rate * seconds):
        due = min(int((time.perf_counter() - began) * rate), round(rate * seconds))
        for number in range(asked, due):
            pool.ask(began + number / rate, answers)
        asked = max(asked, due)
        await reach(now_s() + _TICK_S)
    await until(lambda: len(answers) >= asked, timeout_s=_DRAIN_S)
    return answers


async def back_to_back(pool: Pool, connections: int, seconds: float) -> Sequence[Answered]:
    """Keep so many requests under way, and return how those ended that did in time."""
    answers: list[Answered] = []
    until_s = time.perf_counter() + seconds
    asked = 0
    while time.perf_counter() < until_s:
        for _ in range(connections - (asked - len(answers))):
            pool.ask(time.perf_counter(), answers)
            asked += 1
        await reach(now_s() + _TICK_S)
    ended = list(answers)
    await until(lambda: len(answers) >= asked, timeout_s=_DRAIN_S)
    return ended
