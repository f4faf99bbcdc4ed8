"""What Arrow messages say of themselves, read before anything is decoded."""

from dataclasses import dataclass
from struct import unpack_from


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


def _slot(data: bytes, table: int, field: int) -> int:
    """Return where in a flatbuffer's table a field lies, or 0 when it is left out."""
    vtable = table - unpack_from("<i", data, table)[0]
    if 4 + 2 * field >= unpack_from("<H", data, vtable)[0]:
        return 0
    offset: int = unpack_from("<H", data, vtable + 4 + 2 * field)[0]
    return offset
