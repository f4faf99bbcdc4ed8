"""What Arrow messages and Parquet pages say of themselves, read before anything is decoded."""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import unpack_from

_UNCOMPRESSED, _COMPRESSED = 2, 3
"""Fields of Parquet's PageHeader."""
_MAX_DEPTH = 8
_LONG = 0x0F
"""Instead of a list's length: it follows, for it is too long for four bits."""
_MAX_VARINT_BITS = 63


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """What an Arrow message of kind record batch says of its body."""

    rows: int
    packed: bool
    """Its buffers are compressed one by one, each to a size that only its own bytes tell."""


def batch_header(metadata: bytes) -> BatchHeader:
    """Read the flatbuffer of an Arrow message that is a record batch.

    Raises:
        struct.error: it ends before it should.

    Source: Message.fbs and RecordBatch in the Arrow columnar format, version V5.
    """
    message = unpack_from("<I", metadata, 0)[0]
    at = message + _slot(metadata, message, 2)
    header = at + unpack_from("<I", metadata, at)[0]
    length = _slot(metadata, header, 0)
    rows = unpack_from("<q", metadata, header + length)[0] if length else 0
    return BatchHeader(rows, packed=_slot(metadata, header, 3) != 0)


def page_sizes(body: bytes, start: int, end: int) -> Iterator[int]:
    """Yield the unpacked size of each page of a Parquet column chunk, as its header says.

    Raises:
        ValueError: the headers make no sense.
        IndexError: one ends before it should.
    """
    at = start
    while at < end:
        reader = _Compact(body, at)
        sizes = reader.integers_of_struct()
        unpacked, packed = sizes.get(_UNCOMPRESSED, -1), sizes.get(_COMPRESSED, -1)
        if unpacked < 0 or packed < 0:
            raise ValueError("a page without its sizes")
        yield unpacked
        at = reader.at + packed


def _slot(data: bytes, table: int, field: int) -> int:
    """Return where in a flatbuffer's table a field lies, or 0 when it is left out."""
    vtable = table - unpack_from("<i", data, table)[0]
    if 4 + 2 * field >= unpack_from("<H", data, vtable)[0]:
        return 0
    offset: int = unpack_from("<H", data, vtable + 4 + 2 * field)[0]
    return offset


class _Compact:
    """Thrift's compact protocol as a page header needs it: integers kept, the rest skipped."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def integers_of_struct(self, depth: int = 0) -> dict[int, int]:
        """Read a struct and return its integers by field number."""
        if depth > _MAX_DEPTH:
            raise ValueError("a header nested too deeply")
        found: dict[int, int] = {}
        number = 0
        while (first := self._byte()) != 0:
            number = number + (first >> 4) if first >> 4 else self._zigzag()
            kind = first & 0x0F
            if kind in (4, 5, 6):
                found[number] = self._zigzag()
            elif kind not in (1, 2):  # a boolean is in the first byte itself
                self._skip(kind, depth)
        return found

    def _skip(self, kind: int, depth: int) -> None:
        match kind:
            case 1 | 2 | 3:
                self.at += 1
            case 4 | 5 | 6:
                self._varint()
            case 7:
                self.at += 8
            case 8:
                length = self._varint()
                self.at += length
            case 9 | 10:
                first = self._byte()
                count = self._varint() if first >> 4 == _LONG else first >> 4
                for _ in range(min(count, len(self._data))):
                    self._skip(first & 0x0F, depth + 1)
            case 12:
                self.integers_of_struct(depth + 1)
            case _:
                raise ValueError(f"a header with a field of kind {kind}")

    def _byte(self) -> int:
        value = self._data[self.at]
        self.at += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while shift <= _MAX_VARINT_BITS:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the continuation bit
                return value
            shift += 7
        raise ValueError("a number that is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
