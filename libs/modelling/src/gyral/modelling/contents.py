"""What a table's rows hold, as one number that anybody can add up, in any order and parts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128_digest

Halves: TypeAlias = NDArray[np.uint64]
"""128-bit digests as two little-endian words each, shape (rows, 2)."""

PLACES = ("_topic", "_partition", "_offset", "_row")
"""Columns that say where in Kafka a row lay; they are no content."""

_MODULUS = 1 << 128
_WORD = 64
_HALF_WORD = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Content:
    """How many rows, and the sum of their digests modulo 2^128.

    A row's digest is the xxh3-128 of the MessagePack map of its fields that are not null,
    sorted by name. It tells accidents, not adversaries: who chooses rows can choose sums.
    """

    rows: int = 0
    total: int = 0

    def __add__(self, other: "Content") -> "Content":
        """Return what both hold together."""
        return Content(self.rows + other.rows, (self.total + other.total) % _MODULUS)

    def __neg__(self) -> "Content":
        """Return what is added where these rows are taken away."""
        return Content(-self.rows, -self.total % _MODULUS)

    @property
    def digest(self) -> str:
        """The sum in 32 hexadecimal digits."""
        return f"{self.total:032x}"

    @classmethod
    def told(cls, rows: int, digest: str) -> Self:
        """Return what was written as a count and 32 hexadecimal digits.

        Raises:
            ValueError: the digest is no hexadecimal number.
        """
        return cls(rows, int(digest, 16) % _MODULUS)

    @classmethod
    def of_digests(cls, digests: Halves) -> Self:
        """Return the content of rows whose digests are known."""
        words = digests.byteswap()  # a canonical digest has its first byte highest
        total = sum((_sum(words[:, column]) << shift) for column, shift in ((0, _WORD), (1, 0)))
        return cls(len(digests), total % _MODULUS)

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, object]]) -> Self:
        """Return the content of rows as a lake gives them, times in UTC."""
        return cls.of_digests(digests_of(_encode(_fields(row)) for row in rows))


EMPTY = Content()
"""What a table without rows holds."""


def digests_of(texts: Iterable[bytes]) -> Halves:
    """Return the digests of texts, shape (texts, 2)."""
    whole = b"".join(map(xxh3_128_digest, texts))
    return np.frombuffer(whole, "<u8").reshape(-1, 2)


def _fields(row: Mapping[str, object]) -> dict[str, object]:
    return {
        name: row[name] for name in sorted(row) if row[name] is not None and name not in PLACES
    }


def _sum(words: NDArray[np.uint64]) -> int:
    """Return the exact sum of fewer than 2^32 words."""
    return int((words & _LOW).sum()) + (int((words >> _HALF_WORD).sum()) << 32)
