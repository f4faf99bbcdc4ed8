"""Request bodies from strangers: capped, timed, inflated within limits, strictly parsed."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from gyral.kit.duplicates import reject_repeats
from gyral.kit.refusals import Refusal, bad_json, clip

M = TypeVar("M", bound=BaseModel)

MAX_BODY_BYTES = 8 << 20
MAX_INFLATED_BYTES = 32 << 20
BODY_TIMEOUT_S = 20.0
_INFLATE_STEP = 1 << 16


async def read_body(
    chunks: AsyncIterator[bytes],
    *,
    encoding: str | None = None,
    max_bytes: int = MAX_BODY_BYTES,
    max_inflated_bytes: int = MAX_INFLATED_BYTES,
    timeout_s: float = BODY_TIMEOUT_S,
) -> bytes:
    """Return the whole body, inflated when it is gzip.

    Raises:
        Refusal: 413 too large, 408 too slow, 415 another encoding, 400 it does not inflate.
    """
    coding = (encoding or "identity").strip().lower()
    if coding not in ("identity", "gzip"):
        raise Refusal(
            415,
            "unsupported_encoding",
            f"Content-Encoding: expected gzip or none; found {clip(coding)!r}",
        )
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in chunks:
                body += chunk
                if len(body) > max_bytes:
                    raise too_large(max_bytes)
    except TimeoutError as error:
        raise Refusal(
            408,
            "body_timeout",
            f"expected the whole body within {timeout_s:g} s; found {len(body)} bytes of it",
        ) from error
    return inflate(bytes(body), max_inflated_bytes) if coding == "gzip" else bytes(body)


def inflate(packed: bytes, max_bytes: int) -> bytes:
    """Return what gzip packed, never holding much more than `max_bytes` of it.

    Raises:
        Refusal: 413 when it would be more, 400 when it is not exactly one gzip member.
    """
    stream = zlib.decompressobj(wbits=31)
    whole = bytearray()
    rest = packed
    try:
        while rest and not stream.eof:
            whole += stream.decompress(rest, _INFLATE_STEP)
            rest = stream.unconsumed_tail
            if len(whole) > max_bytes:
                raise too_large(max_bytes)
    except zlib.error as error:
        raise Refusal(
            400, "bad_encoding", "expected a gzip body; found bytes that do not inflate"
        ) from error
    if not stream.eof or stream.unused_data:
        raise Refusal(400, "bad_encoding", "expected one whole gzip member; found less or more")
    return bytes(whole)


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
