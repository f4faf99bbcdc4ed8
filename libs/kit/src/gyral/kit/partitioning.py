"""Which partition a key belongs to: Kafka's default partitioner, over many keys at once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SEED = 0x9747B28C
_M = np.uint32(0x5BD1E995)
_WORD_BYTES = 4
_TAIL_MASKS = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF], dtype=np.uint32)


def partitions_of(keys: Sequence[bytes], count: int) -> NDArray[np.int32]:
    """Return each key's partition among `count`, as Kafka's Java producer chooses it."""
    ends = np.cumsum(np.fromiter(map(len, keys), dtype=np.int64, count=len(keys)))
    bounds = np.concatenate((np.zeros(1, dtype=np.int64), ends))
    return partitions_within(b"".join(keys), bounds, count)


def partitions_within(
    text: bytes | memoryview, bounds: NDArray[np.int64], count: int
) -> NDArray[np.int32]:
    """Return the partition of each key of a column.

    Args:
        text: the keys' bytes, one after the other.
        bounds: where each key starts, and where the last one ends, shape (keys + 1,).
        count: partitions of the topic, at least 1.
    """
    positive = _murmur2(text, bounds) & np.uint32(0x7FFFFFFF)
    return (positive % np.uint32(count)).astype(np.int32)


def _murmur2(text: bytes | memoryview, bounds: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return murmur2 of each key: all keys advance together, a word of four bytes a step.

    Source: A. Appleby's MurmurHash2 as in org.apache.kafka.common.utils.Utils.murmur2.
    """
    lengths = np.diff(bounds)
    longest_first = np.argsort(-lengths, kind="stable")
    starts, lengths = bounds[:-1][longest_first], lengths[longest_first]
    # A word may begin at any byte; the padding lets the last one reach beyond the text.
    padded = b"".join((text, bytes(_WORD_BYTES)))
    words: NDArray[np.uint32] = np.ndarray(
        (len(padded) - _WORD_BYTES + 1,), dtype="<u4", buffer=padded, strides=(1,)
    )
    whole = lengths // _WORD_BYTES
    hashed: NDArray[np.uint32] = np.uint32(_SEED) ^ lengths.astype(np.uint32)
    for step in range(int(whole[0]) if len(whole) else 0):
        live = int(np.searchsorted(-whole, -step, side="left"))
        word = words[starts[:live] + step * _WORD_BYTES] * _M
        word ^= word >> np.uint32(24)
        hashed[:live] = (hashed[:live] * _M) ^ (word * _M)
    tail = lengths % _WORD_BYTES
    rest = words[starts + whole * _WORD_BYTES] & _TAIL_MASKS[tail]
    hashed = np.where(tail > 0, (hashed ^ rest) * _M, hashed)
    hashed ^= hashed >> np.uint32(13)
    hashed *= _M
    hashed ^= hashed >> np.uint32(15)
    found = np.empty_like(hashed)
    found[longest_first] = hashed
    return found
