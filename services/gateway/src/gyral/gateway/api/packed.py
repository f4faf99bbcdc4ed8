"""All features of a request in one tensor [rows, inputs], as array clients send them."""

from array import array
from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import msgspec
import numpy as np

from gyral.contracts.deployment import Datatype, Input
from gyral.gateway.api.binary import Numbers, Sent
from gyral.gateway.api.datatypes import EXACT, KINDS
from gyral.gateway.api.tensors import (
    BadRequestError,
    Reading,
    cell_type,
    check_rows,
    fits_float32,
    float_column,
    is_nested,
    reading,
    shape_of,
)

PACKED = "features"
"""Name of the one tensor; a model that has an input of this name cannot be asked so."""
MAX_WHOLE = 1 << 53
"""Up to here every whole number is a float64."""
_AXES = 2
_SHORT_BYTES = 512
"""Up to here Python is faster than to begin with numpy."""
_TOO_LARGE = (2 - 2**-24) * 2.0**127
"""Least number that becomes infinite in FP32."""
_CELL_BYTES = 25
"""A number in the log, generously."""
_FLOATS = (Datatype.FP32, Datatype.FP64)
_KINDS = {name: kind for name, kind in KINDS.items() if kind.size_bytes}

_Number: TypeAlias = float | None
_Decode: TypeAlias = Callable[[msgspec.Raw], list[_Number]]
_DecodeRows: TypeAlias = Callable[[msgspec.Raw], list[list[_Number]]]


def _pair(datatype: str) -> tuple[_Decode, _DecodeRows]:
    """Return the decoders of a flat array of a datatype, and of one nested by rows."""
    cell = cell_type(datatype) | None  # type: ignore[operator]
    flat = msgspec.json.Decoder(list[cell]).decode  # type: ignore[valid-type]
    nested = msgspec.json.Decoder(list[list[cell]]).decode  # type: ignore[valid-type]
    return cast("_Decode", flat), cast("_DecodeRows", nested)


_DECODERS = {name: _pair(name) for name, kind in _KINDS.items() if kind.json}


class PackedColumn(msgspec.Struct, gc=False):
    """One feature's cells out of a packed tensor; None is a missing value.

    As all columns have one datatype, a cell counts and not what another cell could be: whole
    numbers and truth values may come as any numbers that are equal to them.
    """

    name: str
    datatype: str
    cells: list[_Number]

    @property
    def size_bytes(self) -> int:
        """How much it may add to the log."""
        return _CELL_BYTES * len(self.cells)

    def read(self, declared: Input, rows: int) -> Reading:  # noqa: ARG002 - counted before
        """Return the cells as the runtime and the log take them.

        Raises:
            BadRequestError: one of them is nothing that the input may be.
        """
        cells = self.cells
        if None in cells and not declared.nullable:
            raise self._refused(declared, f"a missing value in row {cells.index(None)}")
        if (self.datatype, declared.datatype) in EXACT:
            return reading(declared.datatype, cells, cells)
        if self.datatype == "BOOL" or declared.datatype not in (Datatype.INT64, Datatype.BOOL):
            raise self._refused(declared, f"{self.datatype} in {PACKED!r}")
        if declared.datatype is Datatype.INT64:
            whole = self._whole(declared, -MAX_WHOLE, MAX_WHOLE)
            return Reading(float_column(whole), whole)
        flags = [None if cell is None else bool(cell) for cell in self._whole(declared, 0, 1)]
        return Reading([*flags], flags)

    def _whole(self, declared: Input, least: int, most: int) -> list[int | None]:
        """Return the cells as whole numbers, when that is what they are."""
        whole: list[int | None] = []
        for row, cell in enumerate(self.cells):
            if cell is None:
                whole.append(None)
            elif least <= cell <= most and cell == int(cell):
                whole.append(int(cell))
            else:
                raise self._refused(declared, f"{cell!r} in row {row}")
        return whole

    def _refused(self, declared: Input, found: str) -> BadRequestError:
        return BadRequestError(f"{self.name}: expected {declared.datatype}; found {found}")


class Block(msgspec.Struct, gc=False):
    """All features of all rows, row after row."""

    order: tuple[str, ...]
    """The inputs that the columns are."""
    datatype: str
    cells: list[_Number]
    column: bytes | None
    """The same as float64; None where one is missing."""

    @property
    def size_bytes(self) -> int:
        """How much it may add to the log."""
        return _CELL_BYTES * len(self.cells) + sum(map(len, self.order))

    def columns(self) -> dict[str, PackedColumn]:
        """Return the columns by their names."""
        return {
            name: PackedColumn(name, self.datatype, cells)
            for name, cells in self.cells_by_name().items()
        }

    def cells_by_name(self) -> dict[str, list[_Number]]:
        """Return the cells of each column."""
        width = len(self.order)
        return {name: self.cells[place::width] for place, name in enumerate(self.order)}

    def floats(self, declared: Sequence[Input]) -> bytes | None:
        """Return all cells at once as the runtime takes them, or None when that is not as easy.

        What is hard, or wrong, is then found column by column.
        """
        if self.column is None or len(declared) != len(self.order):
            return None
        for name, each in zip(self.order, declared, strict=True):
            wanted = each.datatype
            if (
                each.name != name
                or wanted not in _FLOATS
                or (self.datatype, wanted) not in EXACT
            ):
                return None
        return self.column


def unpacked(sent: Sent, order: tuple[str, ...]) -> Block:
    """Return the cells of a packed tensor.

    Args:
        sent: of shape [rows, inputs].
        order: the names of the inputs, as the model's metadata lists them.

    Raises:
        BadRequestError: another shape, datatype or number of cells, or a cell of another type.
    """
    width = len(order)
    if len(sent.shape) != _AXES or sent.shape[1] != width:
        raise BadRequestError(
            f"{PACKED}: expected shape [rows, {width}], a column for each of"
            f" {', '.join(order)[:500]}; found {shape_of(sent)}"
        )
    rows = check_rows(sent)
    cells = _cells(sent, width)
    if len(cells) != rows * width:
        raise BadRequestError(
            f"{PACKED}: expected {rows * width} cells as its shape says; found {len(cells)}"
        )
    column = _column(cells)
    fits = fits_float32(cells) if column is None else _fits(column)
    if sent.datatype == Datatype.FP32 and not fits:
        raise BadRequestError(f"{PACKED}: expected numbers that fit FP32; found a larger one")
    return Block(order, sent.datatype, cells, column)


def _column(cells: list[_Number]) -> bytes | None:
    try:
        return array("d", cast("Sequence[float]", cells)).tobytes()
    except TypeError:  # one of them is missing
        return None


def _fits(column: bytes) -> bool:
    """Return whether none of the numbers is too large for FP32."""
    if len(column) <= _SHORT_BYTES:
        few = memoryview(column).cast("d").tolist()
        return max(few) < _TOO_LARGE and min(few) > -_TOO_LARGE
    many = np.frombuffer(column)
    return bool(many.max() < _TOO_LARGE and many.min() > -_TOO_LARGE)


def _cells(sent: Sent, width: int) -> list[_Number]:
    if isinstance(sent, Numbers):
        return cast("list[_Number]", sent.cells)
    decoders = _DECODERS.get(sent.datatype)
    if decoders is None:
        raise BadRequestError(
            f"{PACKED}: expected datatype {', '.join(_DECODERS)}, as JSON has; found"
            f" {sent.datatype[:20]!r}"
        )
    flat, nested = decoders
    try:
        return _joined(nested(sent.data), width) if is_nested(sent.data) else flat(sent.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        found = str(error) if sent.size_bytes else "expected data; found none"
        raise BadRequestError(f"{PACKED}: {found}") from None


def _joined(nested: list[list[_Number]], width: int) -> list[_Number]:
    for row, inner in enumerate(nested):
        if len(inner) != width:
            raise BadRequestError(
                f"{PACKED}: expected {width} cells a row; found {len(inner)} in row {row}"
            )
    return [cell for inner in nested for cell in inner]
