"""Request bodies from strangers: capped, timed, inflated within limits, parsed without surprises."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)
MAX_ECHO = 200
"""Longest piece of a caller's bytes that an answer repeats."""


class ApiError(Exception):
    """An answer other than success: `{"error": {"code", "message", "field"?}}` with this status."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        retry_after_s: int | None = None,
        **facts: str | int,
    ) -> None:
        super().__init__(message)
        self.status = int(status)
        self.code = code
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s
        self.facts = facts

    def document(self) -> dict[str, dict[str, str | int]]:
        """Return the body of the answer."""
        error: dict[str, str | int] = {"code": self.code, "message": self.message, **self.facts}
        if self.field is not None:
            error["field"] = self.field
        return {"error": error}


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How much of a body is read, and for how long."""

    max_bytes: int = 1 << 20
    max_inflated_bytes: int = 8 << 20
    timeout_s: float = 15.0


async def read_body(
    chunks: AsyncIterator[bytes], *, encoding: str | None = None, limits: BodyLimits | None = None
) -> bytes:
    """Return a whole body, inflated when it is gzip.

    Raises:
        ApiError: 413 too long, 408 too slow, 415 another encoding, 400 broken gzip.
    """
    bounds = limits or BodyLimits()
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(bounds.timeout_s):
            async for chunk in chunks:
                size += len(chunk)
                if size > bounds.max_bytes:
                    raise too_large(bounds.max_bytes)
                parts.append(chunk)
    except TimeoutError as error:
        raise ApiError(
            HTTPStatus.REQUEST_TIMEOUT,
            "body_timeout",
            f"expected the whole body within {bounds.timeout_s:g} s; found {size} bytes of it",
        ) from error
    body = b"".join(parts)
    coding = (encoding or "identity").strip().lower()
    if coding == "identity":
        return body
    if coding != "gzip":
        raise ApiError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_encoding",
            f"content-encoding: expected gzip or none; found {clip(coding)}",
        )
    return inflate(body, max_bytes=bounds.max_inflated_bytes)


def inflate(body: bytes, *, max_bytes: int) -> bytes:
    """Return what a gzip body holds.

    Raises:
        ApiError: 413 it would exceed `max_bytes`, 400 it is not one whole gzip member.
    """
    engine = zlib.decompressobj(wbits=31)
    try:
        plain = engine.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise ApiError(HTTPStatus.BAD_REQUEST, "malformed_gzip", f"expected gzip; found {error}") from error
    if len(plain) > max_bytes:
        raise too_large(max_bytes, "inflated ")
    if not engine.eof or engine.unused_data:
        raise ApiError(HTTPStatus.BAD_REQUEST, "malformed_gzip", "expected one whole gzip member; found less or more")
    return plain


def too_large(max_bytes: int, kind: str = "") -> ApiError:
    """Return the refusal of a body that is too long."""
    return ApiError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", f"expected a {kind}body of at most {max_bytes} bytes; found more"
    )


def parse_json(body: bytes) -> object:
    """Return what a JSON body says; NaN, infinities, deep nesting and broken text are refused.

    Raises:
        ApiError: 400.
    """
    try:
        parsed: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(HTTPStatus.BAD_REQUEST, "malformed_json", f"expected JSON; found {error}"[:500]) from error
    return parsed


def parse_model(body: bytes, model: type[M]) -> M:
    """Return a JSON body as a model, strictly: no type is guessed.

    Raises:
        ApiError: 400 not JSON; 422 not this model, naming the field.
    """
    parse_json(body)
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise invalid(error) from error


def invalid(error: ValidationError) -> ApiError:
    """Return a validation error as an answer that names the first field and what was found there."""
    problems = error.errors(include_url=False, include_context=False)
    first = problems[0]
    field = ".".join(str(at) for at in first["loc"])
    where = f"{clip(field)}: " if field else ""
    return ApiError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid",
        f"{where}{first['msg'][:300]}; found {clip(repr(first['input']))}",
        field=clip(field) or None,
        problems=len(problems),
    )


def clip(text: str) -> str:
    """Return a caller's text as an answer may repeat it: short and printable."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[: MAX_ECHO + 1])
    return shown if len(shown) <= MAX_ECHO else shown[: MAX_ECHO - 1] + "\N{HORIZONTAL ELLIPSIS}"
