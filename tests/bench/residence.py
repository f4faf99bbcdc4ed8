"""What processes hold in memory while rows go through them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg
import numpy as np
from numpy.typing import NDArray

from gyral.testkit.usage import memory_bytes
from tests.bench.pacing import now_s, reach
from tests.bench.report import Memory
from tests.bench.validate import committed_rows

_EVERY_S = 0.25
_WARM_UP = 0.1
_TOLD = 60
"""Samples that a report keeps."""
_MB = 1e6


@dataclass(frozen=True, slots=True)
class Sample:
    """One look."""

    rows: int
    """Committed so far."""
    identities_bytes: int
    """Of the rows that validation remembers, as Postgres holds them and its memory too."""
    resident_bytes: Mapping[str, int]
    """By process."""


@asynccontextmanager
async def sampled(dsn: str, pids: Mapping[str, int]) -> AsyncIterator[Sequence[Sample]]:
    """Look at these processes every so often; what is yielded grows while the block lasts."""
    samples: list[Sample] = []
    conn = await asyncpg.connect(dsn)
    looking = asyncio.create_task(_look(conn, pids, samples))
    try:
        yield samples
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        samples.append(await _sample(conn, pids))
        await conn.close()


def memory_of(
    process: str, samples: Sequence[Sample], *, remember_h: float | None = None
) -> Memory:
    """Return how one process's memory went along with the rows since the first sample.

    Args:
        remember_h: of the one process that holds all identities; None: it holds none.
    """
    rows = np.array([sample.rows for sample in samples], dtype=np.float64)
    rows -= rows[0]
    held = np.array([sample.resident_bytes[process] for sample in samples]) / _MB
    known = np.array([sample.identities_bytes for sample in samples]) / _MB
    if remember_h is None:
        known = np.zeros_like(held)
    warm, late = rows >= _WARM_UP * rows[-1], rows >= 0.5 * rows[-1]
    told = np.unique(np.searchsorted(rows, np.linspace(0, rows[-1], _TOLD)))
    return Memory(
        process=process,
        remember_h=remember_h,
        rows=int(rows[-1]),
        warm_mb=_rounded(held[warm][0]),
        end_mb=_rounded(held[-1]),
        peak_mb=_rounded(held.max()),
        mb_per_million_rows=_rounded(_slope(rows[warm], held[warm])),
        identities_end_mb=_rounded(known[-1]),
        rest_mb_per_million_rows=_rounded(_slope(rows[warm], (held - known)[warm])),
        late_mb_per_million_rows=_rounded(_slope(rows[late], held[late])),
        late_rest_mb_per_million_rows=_rounded(_slope(rows[late], (held - known)[late])),
        samples=[(int(rows[at]), _rounded(held[at]), _rounded(known[at])) for at in told],
    )


def _slope(rows: NDArray[np.float64], mb: NDArray[np.float64]) -> float:
    """Return MB a million rows of the least-squares line; 0 where there is only one size."""
    if np.ptp(rows) == 0:
        return 0.0
    return float(np.polyfit(rows / 1e6, mb, 1)[0])


def _rounded(value: float) -> float:
    return round(float(value), 2)


async def _look(
    conn: "asyncpg.Connection[asyncpg.Record]", pids: Mapping[str, int], samples: list[Sample]
) -> None:
    while True:
        samples.append(await _sample(conn, pids))
        await reach(now_s() + _EVERY_S)


async def _sample(
    conn: "asyncpg.Connection[asyncpg.Record]", pids: Mapping[str, int]
) -> Sample:
    held = await conn.fetchval("SELECT sum(octet_length(columns)) FROM identity_segment")
    return Sample(
        rows=await committed_rows(conn),
        identities_bytes=int(held or 0),
        resident_bytes={name: memory_bytes(pid) for name, pid in pids.items()},
    )
