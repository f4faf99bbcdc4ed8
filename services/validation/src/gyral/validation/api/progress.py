"""Routes that say how far streams have come and which datasets there are."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel

from gyral.contracts.names import StreamName
from gyral.kit.changes import Changes
from gyral.kit.http import Caller, Refusal, scope
from gyral.validation.domain.watermark import time_of
from gyral.validation.store import listings
from gyral.validation.store.listings import Listings
from gyral.validation.store.sinks import Progress as Come

NO_NUL = r"^[^\x00]*$"
"""What Postgres can hold."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
After = Annotated[int, Query(ge=0, lt=2**62)]
Limit = Annotated[int, Query(ge=1, le=1000)]
StreamQuery = Annotated[str | None, Query(max_length=256, pattern=NO_NUL)]


class Progress(BaseModel):
    """How far a stream has come."""

    stream: str
    watermark: datetime | None
    usable_until: datetime | None
    """Before this event time every expectation that blocks was met."""
    version: int | None
    rows: int
    quarantined: int
    duplicates: int


class Dataset(BaseModel):
    """An announced version of a stream's table."""

    id: int
    stream: str
    version: int
    watermark: datetime
    usable_until: datetime
    """Before this event time every expectation that blocks was met."""
    rows: int
    """In the table at this version."""
    content: str | None
    """Sum of its rows' digests modulo 2^128, in hexadecimal."""
    schema_version: int | None
    committed_at: datetime
    erased_at: datetime | None
    """Rows of somebody who was erased left it then: it holds less than was announced."""


def routes(found: Listings, changes: Changes) -> APIRouter:
    """Return the routes of streams and datasets."""
    router = APIRouter()
    reader = Annotated[Caller, scope("read")]

    @router.get("/v1/streams/{stream}/progress")
    async def progress(
        stream: StreamName,
        _caller: reader,
        watermark: AwareDatetime | None = None,
        wait_s: Annotated[float, Query(ge=0, le=20)] = 0.0,
    ) -> Progress:
        """Say how far a stream has come; with a watermark, wait until it has come so far."""
        if watermark is not None:
            wanted_us = _micros(watermark)

            async def come() -> bool:
                now = await found.progress(stream)
                return now is not None and (now.watermark_us or -1) >= wanted_us

            await changes.wait_until(come, wait_s)
        return _progress(stream, await found.progress(stream) or Come())

    @router.get("/v1/datasets")
    async def datasets(
        _caller: reader, stream: StreamQuery = None, after: After = 0, limit: Limit = 100
    ) -> list[Dataset]:
        """List announced versions, oldest first."""
        rows = await found.datasets(stream, after=after, limit=limit)
        return [_dataset(row) for row in rows]

    @router.get("/v1/datasets/{stream}")
    async def dataset(
        stream: StreamName,
        _caller: reader,
        version: Annotated[int | None, Query(ge=0, lt=2**62)] = None,
    ) -> Dataset:
        """Show what a stream's newest version pins, or another one of those announced."""
        row = await found.dataset(stream, version)
        if row is None:
            wanted = "a version" if version is None else f"version {version}"
            raise Refusal(
                404, "not_found", f"{stream}: expected {wanted} that was announced; found none"
            )
        return _dataset(row)

    return router


def _progress(stream: str, come: Come) -> Progress:
    return Progress(
        stream=stream,
        watermark=None if come.watermark_us is None else time_of(come.watermark_us),
        usable_until=None if come.usable_us is None else time_of(come.usable_us),
        version=None if come.standing is None else come.standing.version,
        rows=come.rows,
        quarantined=come.quarantined,
        duplicates=come.duplicates,
    )


def _dataset(row: listings.Dataset) -> Dataset:
    return Dataset(
        id=row.id,
        stream=row.stream,
        version=row.version,
        watermark=time_of(row.watermark_us),
        usable_until=time_of(row.usable_us),
        rows=row.rows,
        content=row.content,
        schema_version=row.schema_version,
        committed_at=row.committed_at,
        erased_at=row.erased_at,
    )


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)
