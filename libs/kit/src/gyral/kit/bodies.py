"""Request bodies from strangers: capped, timed, inflated within limits, strictly parsed."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from gyral.kit.duplicates import reject_repeats
from gyral.kit.inflating import inflater
from gyral.kit.refusals import Refusal, bad_json, clip

M = TypeVar("M", bound=BaseModel)

MAX_BODY_BYTES = 8 << 20
MAX_INFLATED_BYTES = 32 << 20
BODY_TIMEOUT_S = 20.0
_TURN_BYTES = 1 << 20
"""Bytes inflated before others have their turn."""


async def read_body(
    chunks: AsyncIterator[bytes],
    *,
    encoding: str | None = None,
    max_bytes: int = MAX_BODY_BYTES,
    max_inflated_bytes: int = MAX_INFLATED_BYTES,
    timeout_s: float = BODY_TIMEOUT_S,
) -> bytes:
    """Return the whole body, inflated as it comes when it is gzip or zstd.

    Raises:
        Refusal: 413 too large, 408 too slow, 415 another encoding, 400 it does not inflate.
    """
    stream = inflater(encoding or "identity")
    body = _Body(max_bytes if stream is None else max_inflated_bytes)
    received = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in chunks:
                received += len(chunk)
                if received > max_bytes:
                    raise too_large(max_bytes)
                await body.take((chunk,) if stream is None else stream.pieces(chunk))
    except TimeoutError as error:
        raise Refusal(
            408,
            "body_timeout",
            f"expected the whole body within {timeout_s:g} s; found {received} bytes of it",
        ) from error
    if stream is not None:
        stream.finish()
    return body.whole()


class _Body:
    """What has come so far; others have their turn while much of it is inflated."""

    def __init__(self, max_bytes: int) -> None:
        self._held = io.BytesIO()
        self._max_bytes = max_bytes

    def whole(self) -> bytes:
        """Return all of it; it is not copied."""
        return self._held.getvalue()

    async def take(self, pieces: Iterable[bytes]) -> None:
        turn_at = self._held.tell() + _TURN_BYTES
        for piece in pieces:
            self._held.write(piece)
            size = self._held.tell()
            if size > self._max_bytes:
                raise too_large(self._max_bytes)
            if size >= turn_at:
                turn_at = size + _TURN_BYTES
                await asyncio.sleep(0)


def too_large(max_bytes: int) -> Refusal:
    """Return the refusal of a body that is too long."""
    return Refusal(
        413, "body_too_large", f"expected a body of at most {max_bytes} bytes; found more"
    )


def parse_json(body: bytes) -> object:
    """Return the JSON value: RFC 8259 only, so no NaN, Infinity, deep nesting or bad UTF-8.

    Raises:
        Refusal: 400, saying where it stops being JSON, or which key an object has twice.
    """
    try:
        value: object = orjson.loads(body)
    except ValueError as error:
        raise bad_json(error) from error
    reject_repeats(body, value)
    return value


def parse_model(body: bytes, model: type[M]) -> M:
    """Return the body as this model, strictly: no type is guessed from another.

    Raises:
        Refusal: 400 when it is no JSON, 422 naming the first field that does not fit.
    """
    parse_json(body)
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise invalid(error) from error


def invalid(error: ValidationError) -> Refusal:
    """Return the refusal that names the first field at fault, the expected and the found."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = clip(".".join(str(part) for part in first["loc"])) or "body"
    message = f"{field}: {first['msg'][:300]}; found {clip(repr(first['input']))}"
    return Refusal(422, "invalid", message, field=field)
