"""Request bodies: read under a cap, inflated under a cap, parsed strictly, refused with a reason."""

import zlib
from collections.abc import AsyncIterator
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from gyral.kit.refusals import Refusal

M = TypeVar("M", bound=BaseModel)

MAX_BODY_BYTES = 8 << 20
MAX_INFLATED_BYTES = 32 << 20
_INFLATE_STEP = 1 << 16


async def read_body(
    chunks: AsyncIterator[bytes],
    *,
    encoding: str | None = None,
    max_bytes: int = MAX_BODY_BYTES,
    max_inflated_bytes: int = MAX_INFLATED_BYTES,
) -> bytes:
    """Return the whole body, inflated when it is gzip.

    Raises:
        Refusal: 413 when too large, 415 for another encoding, 400 when it does not inflate.
    """
    if encoding not in (None, "", "identity", "gzip"):
        raise Refusal(415, "unsupported_encoding", f"expected Content-Encoding gzip or none; found {encoding[:40]!r}")
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise Refusal(413, "body_too_large", f"expected a body of at most {max_bytes} bytes; found more")
    return inflate(bytes(body), max_inflated_bytes) if encoding == "gzip" else bytes(body)


def inflate(packed: bytes, max_bytes: int) -> bytes:
    """Return what gzip packed, never holding more than `max_bytes` of it.

    Raises:
        Refusal: 413 when it would be more, 400 when it is no gzip or ends early.
    """
    stream = zlib.decompressobj(wbits=31)
    whole = bytearray()
    rest = packed
    try:
        while rest and not stream.eof:
            whole += stream.decompress(rest, _INFLATE_STEP)
            rest = stream.unconsumed_tail
            if len(whole) > max_bytes:
                raise Refusal(413, "body_too_large", f"expected at most {max_bytes} bytes inflated; found more")
    except zlib.error as error:
        raise Refusal(400, "bad_encoding", "expected a gzip body; found bytes that do not inflate") from error
    if not stream.eof:
        raise Refusal(400, "bad_encoding", "expected a whole gzip body; found one that ends early")
    return bytes(whole)


def parse_json(body: bytes) -> object:
    """Return the JSON value: RFC 8259 only, so no NaN, Infinity, deep nesting or bad UTF-8.

    Raises:
        Refusal: 400, saying where it stops being JSON.
    """
    try:
        value: object = orjson.loads(body)
    except ValueError as error:
        raise Refusal(400, "bad_json", f"expected JSON; found {str(error)[:160]}") from error
    return value


def parse_model(body: bytes, model: type[M]) -> M:
    """Return the body as this model.

    Raises:
        Refusal: 400 when it is no JSON, 422 naming the first field that does not fit.
    """
    try:
        return model.model_validate(parse_json(body), strict=None)
    except ValidationError as error:
        raise invalid(error) from error


def invalid(error: ValidationError) -> Refusal:
    """Return the refusal that names the first field at fault, what was expected and what was found."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"])[:200] or "body"
    found = repr(first["input"])[:120]
    return Refusal(422, "invalid", f"{field}: {first['msg']}; found {found}", field=field)
