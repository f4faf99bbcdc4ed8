"""What can be asked of validation: how far streams have come, and what was refused."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, BaseModel, Field

from gyral.contracts.events import Contract
from gyral.contracts.names import StreamName
from gyral.kit.changes import Changes
from gyral.kit.http import Caller, Refusal, read_model, scope
from gyral.validation.store import listings
from gyral.validation.store.listings import Listings
from gyral.validation.store.sinks import Progress as Come

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Replay = Callable[[str, list[int] | None, str], Awaitable[list[int]]]
After = Annotated[int, Query(ge=0, lt=2**62)]
Limit = Annotated[int, Query(ge=1, le=1000)]
StreamQuery = Annotated[str | None, Query(max_length=256)]


class Progress(BaseModel):
    """How far a stream has come."""

    stream: str
    watermark: datetime | None
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
    rows: int
    committed_at: datetime


class Refused(BaseModel):
    """A record in quarantine; `value_base64` holds its bytes as they came."""

    id: int
    topic: str
    partition: int
    offset: int
    stream: str
    record_key: str
    schema_version: int | None
    reason: str
    detail: str
    value_base64: str
    quarantined_at: datetime
    replayed_at: datetime | None


class ReplayAsked(Contract):
    """Which refused records to judge again; ids None means all of the stream."""

    stream: str = Field(max_length=256)
    ids: tuple[Annotated[int, Field(ge=1, lt=2**62)], ...] | None = Field(
        default=None, max_length=1000
    )


class Replayed(BaseModel):
    """Which records went back; ask again while there are any."""

    replayed: int
    ids: list[int]


def routes(found: Listings, changes: Changes, replay: Replay) -> APIRouter:
    """Return validation's routes."""
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
        rows = await found.datasets(_clean(stream), after=after, limit=limit)
        return [_dataset(row) for row in rows]

    @router.get("/v1/quarantine")
    async def quarantine(
        _caller: reader, stream: StreamQuery = None, after: After = 0, limit: Limit = 100
    ) -> list[Refused]:
        """List refused records, oldest first."""
        rows = await found.quarantine(_clean(stream), after=after, limit=limit)
        return [Refused.model_validate(row, from_attributes=True) for row in rows]

    @router.post("/v1/quarantine/replay", status_code=202)
    async def replay_refused(
        request: Request, caller: Annotated[Caller, scope("operate")]
    ) -> Replayed:
        """Have refused records judged again, each once; at most 1,000 a call."""
        asked = await read_model(request, ReplayAsked)
        ids = None if asked.ids is None else list(asked.ids)
        done = await replay(_clean(asked.stream) or "", ids, f"{caller.name} {caller.key_id}")
        return Replayed(replayed=len(done), ids=done)

    return router


def _progress(stream: str, come: Come) -> Progress:
    return Progress(
        stream=stream,
        watermark=None if come.watermark_us is None else _time(come.watermark_us),
        version=come.table_version,
        rows=come.rows,
        quarantined=come.quarantined,
        duplicates=come.duplicates,
    )


def _dataset(row: listings.Dataset) -> Dataset:
    return Dataset(
        id=row.id,
        stream=row.stream,
        version=row.version,
        watermark=_time(row.watermark_us),
        rows=row.rows,
        committed_at=row.committed_at,
    )


def _clean(stream: str | None) -> str | None:
    """Refuse what Postgres cannot hold."""
    if stream is not None and "\0" in stream:
        raise Refusal(
            422, "invalid", "stream: expected text without NUL; found NUL", field="stream"
        )
    return stream


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _time(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)
