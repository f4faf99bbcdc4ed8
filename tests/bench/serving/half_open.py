"""Thousands of connections that never finish their request: what others notice of them."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import cast
from urllib.parse import urlsplit

import numpy as np
import uvloop

from gyral.testkit.waiting import until
from tests.bench.serving.flood import Answered, Pool, at_rate
from tests.bench.serving.load import Target
from tests.bench.serving.report import HalfOpen

SOCKETS = 2000
_RATE = 500.0
_WINDOW_S = 4.0
"""Shorter than the gateway waits for headers: all are open for the whole of it."""
_ROUNDS = 3
_POOL = 32
_CLOSED_S = 30.0
_AT_ONCE = 100
_BEGINNINGS = (
    b"",
    b"POST /v2/models/bench/infer HTTP/1.1\r\nhost: bench\r\n",
    b"POST /v2/models/bench/infer HTTP/1.1\r\nhost: bench\r\ncontent-length: 500\r\n\r\n{",
)
"""Nothing; half of the headers; headers without a key, and the first byte of a body."""


class _Silent(asyncio.Protocol):
    """Sends the beginning of a request and never the rest."""

    def __init__(self, beginning: bytes) -> None:
        self._beginning = beginning
        self.closed = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._beginning)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - protocol
        self.closed = True


def run(target: Target, *, sockets: int = SOCKETS, window_s: float = _WINDOW_S) -> HalfOpen:
    """Ask at a steady rate with and without half-open connections beside, in turns."""
    return uvloop.run(_run(target, sockets, window_s))


async def _run(target: Target, sockets: int, window_s: float) -> HalfOpen:
    calm, beside, closed_s = [], [], []
    async with Pool(target, _POOL) as pool:
        await at_rate(pool, _RATE, window_s)
        for _ in range(_ROUNDS):
            calm.append(_p99_s(await at_rate(pool, _RATE, window_s)))
            async with _half_open(target, sockets) as silent:
                beside.append(_p99_s(await at_rate(pool, _RATE, window_s)))
                _all_open(silent)
                closed_s.append(await _closed_s(silent))
    return HalfOpen(
        sockets=sockets,
        rps=_RATE,
        calm_p99_ms=round(float(np.median(calm)) * 1000, 2),
        p99_ms=round(float(np.median(beside)) * 1000, 2),
        p99_ratio=round(float(np.median(beside) / np.median(calm)), 2),
        closed_s=round(max(closed_s), 1),
    )


@asynccontextmanager
async def _half_open(target: Target, count: int) -> AsyncIterator[Sequence[_Silent]]:
    """Hold so many connections, each with the beginning of a request."""
    at, loop = urlsplit(target.url), asyncio.get_running_loop()
    beginnings = itertools.cycle(_BEGINNINGS)
    opened: list[_Silent] = []
    try:
        while len(opened) < count:
            pairs = await asyncio.gather(
                *(
                    loop.create_connection(
                        lambda: _Silent(next(beginnings)), at.hostname or "", at.port or 0
                    )
                    for _ in range(min(_AT_ONCE, count - len(opened)))
                )
            )
            opened += [silent for _, silent in pairs]
        yield opened
    finally:
        for silent in opened:
            silent.close()


def _all_open(silent: Sequence[_Silent]) -> None:
    """Raise unless all were open for the whole of the window."""
    closed = sum(each.closed for each in silent)
    if closed:
        raise RuntimeError(
            f"expected {len(silent)} connections half-open to the window's end; found {closed}"
            " of them closed"
        )


async def _closed_s(silent: Sequence[_Silent]) -> float:
    """Return seconds until the server has closed them all."""
    began = time.monotonic()
    await until(lambda: all(each.closed for each in silent), timeout_s=_CLOSED_S)
    return time.monotonic() - began


def _p99_s(answers: Sequence[Answered]) -> float:
    """Return how late the latest percent was, none of it refused."""
    refused = [one for one in answers if one.status != HTTPStatus.OK]
    if refused:
        raise RuntimeError(
            f"expected every request answered with 200; found {refused[0]} and"
            f" {len(refused) - 1} more of {len(answers)}"
        )
    return float(np.quantile([one.seconds for one in answers], 0.99))
