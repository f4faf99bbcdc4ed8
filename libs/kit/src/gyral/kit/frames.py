"""What a gateway and a runtime say on their socket: batches of raw rows, in frames."""

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct as Layout

import msgspec

_HEADER = Layout("<IIB")
"""Payload bytes, the id that the answer repeats, the kind; little-endian."""
_CELL_BYTES = 8
MAX_PAYLOAD_BYTES = 16 << 20


class FrameError(ValueError):
    """The peer does not speak this protocol; the connection is of no further use."""


class Kind(IntEnum):
    """What a frame's payload is."""

    BATCH = 1
    """A msgpack `Batch`, towards the runtime."""
    PROBABILITIES = 2
    """One little-endian float64 a row, in the order of the batch."""
    NOT_LOADED = 3
    """The runtime holds no such bytes under that slot, yet or any more; UTF-8 text."""
    FAILED = 4
    """The model gave no answer to this batch; UTF-8 text."""
    HELLO = 5
    """Over TCP before all others: the runtime's nonce, the gateway's nonce and proof, then the
    runtime's proof, which lets it in."""


class Rows(msgspec.Struct, array_like=True, gc=False):
    """The rows of one request: raw cells by column, in the order of the batch's names."""

    count: int
    columns: list[bytes | list[str | bool | None]] | bytes
    """Numbers as little-endian float64 with NaN for missing; text and booleans as they are.

    Where all are numbers, they may come at once, row after row.
    """


class Batch(msgspec.Struct, array_like=True, gc=False):
    """Requests for one slot that the runtime computes together."""

    slot: str
    sha256: str
    """Digest of the bytes that must answer: of ONNX, or of weights."""
    names: tuple[str, ...]
    requests: list[Rows]


class Frame(msgspec.Struct, gc=False):
    """One message of either end."""

    batch_id: int
    kind: Kind
    payload: bytes


_KINDS = {int(kind): kind for kind in Kind}
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Batch).decode


def packed(batch_id: int, kind: Kind, payload: bytes) -> bytes:
    """Return a frame as it goes over the wire.

    Raises:
        FrameError: the payload is longer than MAX_PAYLOAD_BYTES.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise FrameError(
            f"expected at most {MAX_PAYLOAD_BYTES} payload bytes, found {len(payload)}"
        )
    return _HEADER.pack(len(payload), batch_id, kind) + payload


def batch_payload(batch: Batch) -> bytes:
    """Return a batch as a frame carries it."""
    return _encode(batch)


def batch_of(frame: Frame) -> Batch:
    """Return the batch a frame carries; each column is as long as its request says.

    Raises:
        FrameError: it carries none.
    """
    if frame.kind is not Kind.BATCH:
        raise FrameError(f"expected a batch, found a frame of kind {frame.kind.name}")
    try:
        batch = _decode(frame.payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError(f"expected a batch: {error}") from error
    width_bytes = len(batch.names) * _CELL_BYTES
    for rows in batch.requests:
        if isinstance(rows.columns, bytes):
            if len(rows.columns) != rows.count * width_bytes:
                raise FrameError(
                    f"expected {rows.count} rows of {width_bytes} bytes, found"
                    f" {len(rows.columns)} bytes"
                )
            continue
        if len(rows.columns) != len(batch.names):
            raise FrameError(f"expected {len(batch.names)} columns, found {len(rows.columns)}")
        for name, cells in zip(batch.names, rows.columns, strict=True):
            size = len(cells) / _CELL_BYTES if isinstance(cells, bytes) else len(cells)
            if size != rows.count:
                raise FrameError(f"{name}: expected {rows.count} cells, found {size:g}")
    return batch


def _whole(data: bytes) -> Frame | None:
    """Return the one frame that these bytes are, as they mostly are, or None."""
    if len(data) < _HEADER.size:
        return None
    size, batch_id, kind = _HEADER.unpack_from(data)
    if size + _HEADER.size != len(data) or size > MAX_PAYLOAD_BYTES or kind not in _KINDS:
        return None
    return Frame(batch_id, _KINDS[kind], data[_HEADER.size :])


class FrameReader:
    """Cuts what a socket delivers into frames, however it was split on the way."""

    __slots__ = ("_received",)

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are complete now.

        Raises:
            FrameError: the stream is no sequence of frames; drop the connection.
        """
        received = self._received
        if not received:
            whole = _whole(data)
            if whole is not None:
                yield whole
                return
        received += data
        start = 0
        try:
            while len(received) - start >= _HEADER.size:
                size, batch_id, kind = _HEADER.unpack_from(received, start)
                if size > MAX_PAYLOAD_BYTES or kind not in _KINDS:
                    raise FrameError(f"expected a frame, found kind {kind} and {size} bytes")
                end = start + _HEADER.size + size
                if len(received) < end:
                    return
                payload = bytes(memoryview(received)[start + _HEADER.size : end])
                start = end
                yield Frame(batch_id, _KINDS[kind], payload)
        finally:
            del received[:start]
