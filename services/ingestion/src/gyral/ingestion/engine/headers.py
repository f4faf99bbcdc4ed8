"""What Parquet pages say of themselves, read before anything is decoded."""

from collections.abc import Iterator
from struct import unpack_from
from typing import TypeAlias

_MAGIC = b"PAR1"
_TAIL_BYTES = 8
_MAX_FOOTER_BYTES = 1 << 20
_MAX_DEPTH = 12
_MAX_VARINT_BITS = 63
_LONG = 0x0F
"""Instead of a list's length: it follows, for it is too long for four bits."""
Thrift: TypeAlias = "int | list[Thrift] | dict[int, Thrift]"
"""A value as far as it matters here; texts, for one, are only where they end."""


def page_sizes(body: bytes) -> Iterator[int]:
    """Yield the unpacked size of each page of a Parquet file, as the page's own header says.

    The footer is read here, too: pyarrow's accessors of row groups end the process when a
    statistic in it is wrong.

    Raises:
        ValueError: footer or headers make no sense.
        IndexError: one ends before it should.

    Source: parquet.thrift of the Parquet format, version 2.12.
    """
    for chunk in _column_chunks(body):
        about = _fields(chunk.get(3, 0))
        start, dictionary = _integer(about.get(9, -1)), _integer(about.get(11, 0))
        if 0 < dictionary < start:
            start = dictionary
        end = start + _integer(about.get(7, -1))
        if start < 0 or end > len(body):
            raise ValueError("a column that lies outside of the file")
        while start < end:
            reader = _Compact(body, start)
            header = reader.struct()
            unpacked, packed = _integer(header.get(2, -1)), _integer(header.get(3, -1))
            if unpacked < 0 or packed < 0:
                raise ValueError("a page without its sizes")
            yield unpacked
            start = reader.at + packed


def _column_chunks(body: bytes) -> Iterator[dict[int, Thrift]]:
    if len(body) < _TAIL_BYTES or body[-4:] != _MAGIC:
        raise ValueError("a file that does not end in PAR1")
    size = unpack_from("<I", body, len(body) - _TAIL_BYTES)[0]
    if size > min(_MAX_FOOTER_BYTES, len(body) - _TAIL_BYTES):
        raise ValueError(f"a footer of {size} bytes")
    footer = _Compact(body, len(body) - _TAIL_BYTES - size).struct()
    for group in _list(footer.get(4, 0)):
        for chunk in _list(_fields(group).get(1, 0)):
            yield _fields(chunk)


def _fields(value: Thrift) -> dict[int, Thrift]:
    if not isinstance(value, dict):
        raise ValueError("something else than a struct")  # noqa: TRY004 - a fact of the bytes
    return value


def _list(value: Thrift) -> list[Thrift]:
    if not isinstance(value, list):
        raise ValueError("something else than a list")  # noqa: TRY004 - as above
    return value


def _integer(value: Thrift) -> int:
    if not isinstance(value, int):
        raise ValueError("something else than a number")  # noqa: TRY004 - as above
    return value


class _Compact:
    """Thrift's compact protocol, read once from front to back."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def struct(self, depth: int = 0) -> dict[int, Thrift]:
        """Read a struct and return its fields by number."""
        found: dict[int, Thrift] = {}
        number = 0
        while (first := self._byte()) != 0:
            number = number + (first >> 4) if first >> 4 else self._zigzag()
            kind = first & 0x0F
            # A boolean field has no bytes of its own, unlike one in a list.
            found[number] = kind if kind in (1, 2) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Thrift:
        if depth > _MAX_DEPTH:
            raise ValueError("a header nested too deeply")
        match kind:
            case 1 | 2 | 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._zigzag()
            case 7:
                self.at += 8
            case 8:
                length = self._varint()
                self.at += length
            case 9 | 10:
                first = self._byte()
                count = self._varint() if first >> 4 == _LONG else first >> 4
                if count > len(self._data) - self.at:
                    raise ValueError("a list longer than what is left")
                return [self._value(first & 0x0F, depth + 1) for _ in range(count)]
            case 12:
                return self.struct(depth + 1)
            case _:
                raise ValueError(f"a field of kind {kind}")
        return self.at

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
