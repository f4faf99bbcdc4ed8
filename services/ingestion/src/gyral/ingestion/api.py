"""The door: routes that take rows and markers."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel

from gyral.contracts.events import Contract
from gyral.ingestion.engine.forms import MediaType, media_type
from gyral.ingestion.engine.metrics import Metrics
from gyral.ingestion.handlers import requests
from gyral.ingestion.handlers.requests import Handlers
from gyral.kit.bodies import parse_model, read_body
from gyral.kit.http import Caller, Refusal, scope

_BINARY = {"type": "string", "format": "binary"}
_SCHEMAS: Mapping[MediaType, Mapping[str, object]] = {
    MediaType.NDJSON: {"type": "string", "description": "JSON objects, one a line"},
    MediaType.JSON: {"type": "object", "description": "one row"},
    MediaType.CLOUDEVENT: {
        "type": "object",
        "description": "a CloudEvent around a row",
    },
    MediaType.CLOUDEVENTS: {"type": "array", "items": {"type": "object"}},
    MediaType.ARROW: _BINARY,
    MediaType.PARQUET: _BINARY,
}
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,128}")


_ROWS = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "the same request sent again under it gets the same answer",
            "schema": {"type": "string", "pattern": "^[\\x21-\\x7e]{1,128}$"},
        },
        {
            "name": "Content-Encoding",
            "in": "header",
            "schema": {"enum": ["identity", "gzip", "zstd"]},
        },
    ],
    "requestBody": {
        "required": True,
        "description": "Rows, in one of these forms.",
        "content": {form.value: {"schema": _SCHEMAS[form]} for form in MediaType},
    },
}

_MARKER = {
    "requestBody": {
        "required": True,
        "description": "An event time with a zone.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"event_time": {"type": "string", "format": "date-time"}},
                    "required": ["event_time"],
                    "additionalProperties": False,
                }
            }
        },
    }
}


class Ids(BaseModel):
    """Receipts of a request's first and last row; its records' `ce_id` begins like them."""

    first: str
    last: str


class Accepted(BaseModel):
    """The answer once Kafka holds every row."""

    accepted: int
    ids: Ids


class Marker(Contract):
    """A request to advance a stream's time."""

    event_time: str


class Gate:
    """Lets so many requests in at once and turns the others away early."""

    def __init__(self, places: int) -> None:
        self._free = places

    def __enter__(self) -> None:
        if self._free == 0:
            message = "too many requests are in hand; send the same again later"
            raise Refusal(429, "overloaded", message, retry_after_s=1)
        self._free -= 1

    def __exit__(self, *_: object) -> None:
        self._free += 1


def routes(
    reactions: Handlers, *, max_bytes: int, max_inflated_bytes: int, max_in_flight: int
) -> APIRouter:
    """Return ingestion's routes."""
    router = APIRouter()
    gate = Gate(max_in_flight)

    async def body_of(request: Request) -> bytes:
        return await read_body(
            request.stream(),
            encoding=request.headers.get("content-encoding"),
            max_bytes=max_bytes,
            max_inflated_bytes=max_inflated_bytes,
        )

    @router.post("/v1/streams/{stream}/records", status_code=202, openapi_extra=_ROWS)
    async def submit(
        stream: str, request: Request, caller: Annotated[Caller, scope("ingest")]
    ) -> Accepted:
        """Take rows: all of the request or none."""
        with gate, counted(reactions.metrics):
            form = media_type(request.headers.get("content-type"))
            asked = requests.Request(stream, caller.key_id, form, _idempotency_key(request))
            # The body is nobody's but the reader's: it is let go before Kafka is waited for.
            read = await reactions.read(asked, await body_of(request))
            taken = await reactions.take(read)
        count = taken.rows
        return Accepted(accepted=count, ids=Ids(first=taken.id_of(1), last=taken.id_of(count)))

    @router.post("/v1/streams/{stream}/watermark", status_code=202, openapi_extra=_MARKER)
    async def advance(
        stream: str, request: Request, _caller: Annotated[Caller, scope("ingest")]
    ) -> dict[str, str]:
        """Say that everything before this event time was sent."""
        with gate, counted(reactions.metrics):
            marker = parse_model(await body_of(request), Marker)
            time = await reactions.advance(stream, marker.event_time)
        return {"event_time": time.isoformat()}

    return router


@contextmanager
def counted(metrics: Metrics) -> Iterator[None]:
    """Count what is refused within, by its code."""
    try:
        yield
    except Refusal as refused:
        metrics.rejects.add(1, {"code": refused.code})
        raise


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        message = (
            "Idempotency-Key: expected 1 to 128 visible ASCII characters; found something else"
        )
        raise Refusal(400, "invalid", message, field="Idempotency-Key")
    return key
