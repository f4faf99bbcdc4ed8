"""How long a row answered 202 takes to be in the lake, while rows flow at a steady rate."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import httpx
import numpy as np

from tests.bench.feed import STREAM
from tests.bench.pacing import now_s, reach
from tests.bench.rows import as_ndjson, rows
from tests.bench.validate import commits, committed_rows

_ROWS = 1000
"""Of one request."""
_IN_FLIGHT = 8
"""Requests at once, fewer than ingestion takes: a slow answer delays the next, and shows."""
_FIRST = 500_000_000
"""Beyond every row that other parts of the benchmark send."""


@dataclass(frozen=True, slots=True)
class Visible:
    """Seconds from a 202 to the commit that holds its rows."""

    p50: float
    p99: float
    rows_per_s: float
    """At which rows were really sent."""


async def run(dsn: str, ingestion: str, key: str, *, rate: float, seconds: float) -> Visible:
    """Send rows at `rate` a second through ingestion, validation running, and watch.

    Requests are told apart by the count of rows alone: one is visible once as many rows are
    committed as were answered up to it. Postgres commits after the lake, so the figure is
    never too good.
    """
    first = range(_FIRST, _FIRST + int(rate * seconds), _ROWS)
    bodies = [as_ndjson(rows(_ROWS, first=at)) for at in first]
    conn = await asyncpg.connect(dsn)
    try:
        before = await committed_rows(conn)
        watching = asyncio.create_task(commits(conn, before + len(bodies) * _ROWS))
        answered = await _send(ingestion, key, bodies, rate)
        seen = await watching
    finally:
        await conn.close()
    wanted = before + _ROWS * np.arange(1, len(bodies) + 1)
    counts = np.array([count for _, count in seen])
    moments = np.array([moment for moment, _ in seen])
    waited = moments[np.searchsorted(counts, wanted)] - np.array(answered)
    return Visible(
        p50=float(np.quantile(waited, 0.5)),
        p99=float(np.quantile(waited, 0.99)),
        rows_per_s=(len(answered) - 1) * _ROWS / (answered[-1] - answered[0]),
    )


async def _send(url: str, key: str, bodies: Sequence[bytes], rate: float) -> list[float]:
    """Send each body when it is due and return the moments of the answers, in order."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/x-ndjson"}
    began, places = now_s(), asyncio.Semaphore(_IN_FLIGHT)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:

        async def send(at: int, body: bytes) -> float:
            await reach(began + at * _ROWS / rate)
            async with places:
                answer = await client.post(f"/v1/streams/{STREAM}/records", content=body)
                answer.raise_for_status()
                return now_s()

        return sorted(await asyncio.gather(*(send(at, body) for at, body in enumerate(bodies))))
