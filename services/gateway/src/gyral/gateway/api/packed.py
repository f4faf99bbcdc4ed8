"""All features of a request in one tensor [rows, inputs], as array clients send them."""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from gyral.contracts.deployment import Datatype, Input
from gyral.gateway.api.tensors import (
    BadRequestError,
    Int64,
    Reading,
    Tensor,
    check_rows,
    fits_float32,
    float_column,
    is_nested,
    shape_of,
)

PACKED = "features"
"""Name of the one tensor; a model that has an input of this name cannot be asked so."""
MAX_WHOLE = 1 << 53
"""Up to here every whole number is a float64."""
_AXES = 2
_FLOATS = (Datatype.FP32, Datatype.FP64)

_Number: TypeAlias = "float | None"
_Decode: TypeAlias = Callable[[msgspec.Raw], list[_Number]]
_DecodeRows: TypeAlias = Callable[[msgspec.Raw], list[list[_Number]]]

_FLAT: dict[str, _Decode] = {
    "FP32": msgspec.json.Decoder(list[float | None]).decode,
    "FP64": msgspec.json.Decoder(list[float | None]).decode,
    "INT64": msgspec.json.Decoder(list[Int64 | None]).decode,
    "BOOL": msgspec.json.Decoder(list[bool | None]).decode,
}
_NESTED: dict[str, _DecodeRows] = {
    "FP32": msgspec.json.Decoder(list[list[float | None]]).decode,
    "FP64": msgspec.json.Decoder(list[list[float | None]]).decode,
    "INT64": msgspec.json.Decoder(list[list[Int64 | None]]).decode,
    "BOOL": msgspec.json.Decoder(list[list[bool | None]]).decode,
}


class PackedColumn(msgspec.Struct, gc=False):
    """One feature's cells out of a packed tensor; None is a missing value."""

    name: str
    datatype: str
    cells: list[_Number]

    @property
    def size_bytes(self) -> int:
        """How much it may add to the log."""
        return 25 * len(self.cells)

    def read(self, declared: Input, rows: int) -> Reading:  # noqa: ARG002 - counted before
        """Return the cells as the runtime and the log take them.

        Raises:
            BadRequestError: one of them is nothing that the input may be.
        """
        cells = self.cells
        if None in cells and not declared.nullable:
            raise self._refused(declared, f"a missing value in row {cells.index(None)}")
        match declared.datatype:
            case Datatype.FP64 | Datatype.FP32:
                return self._floats(declared)
            case Datatype.INT64:
                whole = self._whole(declared, MAX_WHOLE)
                return Reading(float_column(whole), whole)
            case Datatype.BOOL:
                self._whole(declared, 1, least=0)
                flags = [None if cell is None else bool(cell) for cell in cells]
                return Reading([*flags], flags)
            case Datatype.BYTES:
                raise self._refused(
                    declared, f"{self.datatype} in {PACKED!r}; send one tensor an input"
                )

    def _floats(self, declared: Input) -> Reading:
        sent = self.datatype
        if sent not in _FLOATS or (sent == Datatype.FP64 and declared.datatype != sent):
            raise self._refused(declared, f"{sent} in {PACKED!r}, which it cannot hold exactly")
        column = float_column(self.cells)
        if sent == Datatype.FP32 and not fits_float32(column):
            raise self._refused(declared, "a number too large for FP32")
        return Reading(column, self.cells)

    def _whole(self, declared: Input, most: int, least: int | None = None) -> list[int | None]:
        """Return the cells as whole numbers, when that is what they are."""
        low = -most if least is None else least
        sent = self.datatype
        if sent == Datatype.BOOL != declared.datatype:
            raise self._refused(declared, f"{sent} in {PACKED!r}")
        exact = sent == declared.datatype
        whole: list[int | None] = []
        for row, cell in enumerate(self.cells):
            if cell is None:
                whole.append(None)
            elif exact or (low <= cell <= most and cell == int(cell)):
                whole.append(int(cell))
            else:
                raise self._refused(declared, f"{cell!r} in row {row}")
        return whole

    def _refused(self, declared: Input, found: str) -> BadRequestError:
        return BadRequestError(f"{self.name}: expected {declared.datatype}; found {found}")


def unpacked(tensor: Tensor, order: tuple[str, ...]) -> dict[str, PackedColumn]:
    """Return the columns of a packed tensor by their names.

    Args:
        tensor: of shape [rows, inputs].
        order: the names of the inputs, as the model's metadata lists them.

    Raises:
        BadRequestError: another shape, datatype or number of cells, or a cell of another type.
    """
    width = len(order)
    if len(tensor.shape) != _AXES or tensor.shape[1] != width:
        raise BadRequestError(
            f"{PACKED}: expected shape [rows, {width}], a column for each of"
            f" {', '.join(order)[:500]}; found {shape_of(tensor)}"
        )
    rows = check_rows(tensor)
    cells = _cells(tensor, rows, width)
    return {
        name: PackedColumn(name, tensor.datatype, cells[place::width])
        for place, name in enumerate(order)
    }


def _cells(tensor: Tensor, rows: int, width: int) -> list[_Number]:
    flat = _FLAT.get(tensor.datatype)
    if flat is None:
        raise BadRequestError(
            f"{PACKED}: expected datatype {', '.join(_FLAT)}; found {tensor.datatype[:20]!r}"
        )
    try:
        if is_nested(tensor.data):
            nested = _NESTED[tensor.datatype](tensor.data)
            for row, inner in enumerate(nested):
                if len(inner) != width:
                    raise BadRequestError(
                        f"{PACKED}: expected {width} cells a row; found {len(inner)} in row"
                        f" {row}"
                    )
            cells = [cell for inner in nested for cell in inner]
        else:
            cells = flat(tensor.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"{PACKED}: {error}") from None
    if len(cells) != rows * width:
        raise BadRequestError(
            f"{PACKED}: expected {rows * width} cells as its shape says; found {len(cells)}"
        )
    return cells
