"""Tensors as bytes: little-endian, row by row, without padding."""

import struct
from array import array
from collections.abc import Sequence
from math import inf, isfinite
from typing import TypeAlias

import msgspec
import numpy as np

from gyral.contracts.deployment import Datatype, Input
from gyral.gateway.api.datatypes import KINDS
from gyral.gateway.api.tensors import (
    BadRequestError,
    Cell,
    Field,
    Reading,
    Tensor,
    expect_exact,
    reading,
)

MAX_ELEMENTS = 1 << 20
"""More than any request may hold: beyond, a shape is not even multiplied out."""
_LENGTH = struct.Struct("<I")
_CELL_BYTES = 25
"""A number as JSON, at most."""
_NULL_BITS = 16
_FP64 = Datatype.FP64.value
_encode = msgspec.json.Encoder().encode


class Numbers(msgspec.Struct, gc=False):
    """An input that came as numbers; None is a missing value, which binary has as NaN."""

    name: str
    shape: list[int]
    datatype: str
    cells: list[Cell]
    missing: bool
    """True when any of them is None."""
    raw: bytes = b""
    """The same as float64, where they came so."""

    @property
    def size_bytes(self) -> int:
        """How much it may add to the log."""
        return _CELL_BYTES * len(self.cells)

    def read(self, declared: Input, rows: int) -> Reading:  # noqa: ARG002 - counted before
        """Return the cells as the runtime and the log take them; raises BadRequestError."""
        if self.datatype != declared.datatype:
            expect_exact(self, declared.datatype)
        if self.missing and not declared.nullable:
            raise BadRequestError(
                f"{self.name}: expected a number in each row; found none in row"
                f" {self.cells.index(None)}"
            )
        if self.raw:  # of FP64, which nothing but FP64 holds
            return Reading(self.raw, self.cells)
        return reading(declared.datatype, self.cells, self.cells)


Sent: TypeAlias = Tensor | Numbers | Field
"""An input as a client sends it."""


def elements(name: str, shape: Sequence[int]) -> int:
    """Return how many elements a shape has; raises BadRequestError when that is absurd."""
    count = 1
    for axis in shape:
        if not 0 <= axis <= MAX_ELEMENTS or (count := count * axis) > MAX_ELEMENTS:
            raise BadRequestError(
                f"{name[:80]}: expected a shape of at most {MAX_ELEMENTS} elements; found"
                f" {str(shape)[:40]}"
            )
    return count


def from_raw(name: str, shape: list[int], datatype: str, raw: memoryview) -> Tensor | Numbers:
    """Return the tensor that bytes hold.

    Raises:
        BadRequestError: another size than shape and datatype have, or other bytes.
    """
    kind = KINDS.get(datatype)
    if kind is None:
        raise BadRequestError(
            f"{name[:80]}: expected one of {', '.join(KINDS)}; found {datatype[:20]!r}"
        )
    count = elements(name, shape)
    if not kind.size_bytes:
        texts = _texts(name, raw, count)
        return Tensor(name, shape, datatype, msgspec.Raw(_encode(texts)))
    if len(raw) != count * kind.size_bytes:
        raise BadRequestError(
            f"{name[:80]}: expected {count * kind.size_bytes} bytes, as {datatype} of shape"
            f" {str(shape)[:40]} has; found {len(raw)}"
        )
    bits = raw.cast(kind.code).tolist()  # type: ignore[call-overload]
    numbers = from_cells(name, shape, datatype, _decoded(name, datatype, raw, bits))
    if datatype == _FP64:
        numbers.raw = bytes(raw)
    return numbers


def from_cells(name: str, shape: list[int], datatype: str, cells: list[Cell]) -> Numbers:
    """Return the tensor that cells of a fixed size make; raises BadRequestError at infinity."""
    missing = False
    if not isfinite(sum(cells)):  # type: ignore[arg-type]
        if inf in cells or -inf in cells:
            raise BadRequestError(f"{name[:80]}: expected finite numbers; found infinity")
        cells = [cell if cell == cell else None for cell in cells]  # noqa: PLR0124 - NaN
        missing = None in cells
    return Numbers(name, shape, datatype, cells, missing)


def as_json(sent: Sent) -> Tensor:
    """Return a tensor in the form that keys and times are read in."""
    if isinstance(sent, Tensor):
        return sent
    data = sent.data if isinstance(sent, Field) else msgspec.Raw(_encode(sent.cells))
    return Tensor(sent.name, sent.shape, sent.datatype, data)


def _decoded(name: str, datatype: str, raw: memoryview, bits: list[Cell]) -> list[Cell]:
    match datatype:
        case "BOOL":
            if other := {*bits} - {0, 1}:
                raise BadRequestError(
                    f"{name[:80]}: expected 0 or 1 a BOOL; found {other.pop()}"
                )
            return [bit == 1 for bit in bits]
        case "FP16":
            return [*np.frombuffer(raw, dtype="<f2").tolist()]
        case "BF16":
            upper = np.frombuffer(raw, dtype="<u2").astype("<u4") << _NULL_BITS
            return [*upper.view("<f4").tolist()]
    return bits


def _texts(name: str, raw: memoryview, count: int) -> list[str]:
    texts: list[str] = []
    at = 0
    for element in range(count):
        start = at + _LENGTH.size
        if start > len(raw):
            break
        [length] = _LENGTH.unpack_from(raw, at)
        at = start + length
        if at > len(raw):
            raise BadRequestError(
                f"{name[:80]}: expected {length} bytes of element {element}; found"
                f" {len(raw) - start}"
            )
        texts.append(text(name, bytes(raw[start:at])))
    if len(texts) != count or at != len(raw):
        raise BadRequestError(
            f"{name[:80]}: expected {count} elements in {len(raw)} bytes; found {len(texts)} in"
            f" {at}"
        )
    return texts


def text(name: str, element: bytes) -> str:
    """Return an element of BYTES; raises BadRequestError when it is no UTF-8."""
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise BadRequestError(
            f"{name[:80]}: expected UTF-8; found the byte 0x{element[error.start]:02x}"
        ) from None


def to_raw(datatype: Datatype, cells: Sequence[float] | Sequence[str]) -> bytes:
    """Return an answer's FP64 or BYTES as bytes."""
    if datatype is Datatype.FP64:
        return array("d", cells).tobytes()
    texts = [str(cell).encode() for cell in cells]
    return b"".join(part for each in texts for part in (_LENGTH.pack(len(each)), each))
