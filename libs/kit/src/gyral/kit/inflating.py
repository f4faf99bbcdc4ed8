"""Packed bytes from strangers, inflated piece by piece, so that a bomb stops at any limit."""

import sys
import zlib
from collections.abc import Iterator
from typing import Protocol

from gyral.kit.refusals import Refusal, clip

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES = 256 << 10
_WINDOW_LOG = 23
"""Most memory a zstd frame may ask for, 8 MiB: what RFC 9659 allows in HTTP."""


class Inflater(Protocol):
    """One packed body on its way in."""

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        """Yield what the next packed bytes hold, at most PIECE_BYTES at once.

        Raises:
            Refusal: 400, they do not inflate.
        """

    def finish(self) -> None:
        """Expect that the body was one whole.

        Raises:
            Refusal: 400, something is missing.
        """


def inflater(coding: str) -> Inflater | None:
    """Return what undoes a Content-Encoding; None for identity.

    Raises:
        Refusal: 415, it is none we know.
    """
    match coding.strip().lower():
        case "gzip":
            return _Gzip()
        case "zstd":
            return _Zstd()
        case "identity":
            return None
        case other:
            raise Refusal(
                415,
                "unsupported_encoding",
                f"Content-Encoding: expected gzip, zstd or none; found {clip(other)!r}",
            )


class _Gzip:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        rest, more = packed, True
        while more and not self._stream.eof:
            try:
                piece = self._stream.decompress(rest, PIECE_BYTES)
            except zlib.error as error:
                raise _not_packed("gzip") from error
            yield piece
            rest = self._stream.unconsumed_tail
            more = bool(rest) or len(piece) == PIECE_BYTES
        if self._stream.eof and (self._stream.unused_data or rest):
            raise _not_whole("gzip member")

    def finish(self) -> None:
        if not self._stream.eof:
            raise _not_whole("gzip member")


class _Zstd:
    def __init__(self) -> None:
        limits = {int(zstd.DecompressionParameter.window_log_max): _WINDOW_LOG}
        self._stream = zstd.ZstdDecompressor(options=limits)

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        rest = packed
        while not self._stream.eof:
            try:
                yield self._stream.decompress(rest, PIECE_BYTES)
            except zstd.ZstdError as error:
                raise _not_packed("zstd") from error
            rest = b""
            if self._stream.needs_input:
                return
        if self._stream.unused_data or rest:
            raise _not_whole("zstd frame")

    def finish(self) -> None:
        if not self._stream.eof:
            raise _not_whole("zstd frame")


def _not_packed(coding: str) -> Refusal:
    return Refusal(
        400, "bad_encoding", f"expected a {coding} body; found bytes that do not inflate"
    )


def _not_whole(one: str) -> Refusal:
    return Refusal(400, "bad_encoding", f"expected one whole {one}; found less or more")
