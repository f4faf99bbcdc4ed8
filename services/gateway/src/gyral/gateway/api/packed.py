"""All features of a request in one tensor [rows, inputs], as array clients send them."""

from array import array
from collections.abc import Callable
from functools import lru_cache
from struct import Struct
from typing import TypeAlias, cast

import msgspec
import numpy as np
import orjson

from gyral.contracts.deployment import Datatype, Input, Share
from gyral.gateway.api.binary import Numbers, Sent
from gyral.gateway.api.datatypes import KINDS
from gyral.gateway.api.tensors import (
    BadRequestError,
    Features,
    Field,
    Json,
    Tensor,
    cell_type,
    check_rows,
    fits_float32,
    float_column,
    is_nested,
    missing_input,
    shape_of,
)
from gyral.gateway.domain.rows import Column

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
_FLOATS = frozenset({Datatype.FP32, Datatype.FP64})
_BOOL = Datatype.BOOL
_INTO_WHOLE = (Datatype.INT64, Datatype.BOOL)
_KINDS = {name: kind for name, kind in KINDS.items() if kind.size_bytes}
_EXACT_FLOATS = {name: kind.exact & _FLOATS for name, kind in KINDS.items()}

_Number: TypeAlias = float | None
_Decode: TypeAlias = Callable[[msgspec.Raw], list[_Number]]
_DecodeRows: TypeAlias = Callable[[msgspec.Raw], list[list[_Number]]]


def _pair(cell: object) -> tuple[_Decode, _DecodeRows]:
    """Return the decoders of a flat array of such cells, and of one nested by rows."""
    flat = msgspec.json.Decoder(list[cell]).decode  # type: ignore[valid-type]
    nested = msgspec.json.Decoder(list[list[cell]]).decode  # type: ignore[valid-type]
    return cast("_Decode", flat), cast("_DecodeRows", nested)


_DECODERS = {name: _pair(cell_type(name)) for name, kind in _KINDS.items() if kind.json}
_NULLABLE = {name: _pair(cell_type(name) | None) for name in _DECODERS}  # type: ignore[operator]


class Block(msgspec.Struct, gc=False):
    """All features of all rows, row after row; None is a missing value.

    As all columns have one datatype, a cell counts and not what another cell could be: whole
    numbers and truth values may come as any numbers that are equal to them.
    """

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

    def read(self, share: Share) -> Features:
        """Return the features as this version reads them.

        Raises:
            BadRequestError: a cell is nothing that its input may be, or there is none.
        """
        if self.column is not None and self._only_floats(share):
            return Features(self.column, self._by_name())
        exact = KINDS[self.datatype].exact
        columns: list[Column] = []
        json: dict[str, Json] = {}
        places = {name: place for place, name in enumerate(self.order)}
        width = len(places)
        missing = self.column is None
        numbers = array("d", self.column or float_column(self.cells))
        for declared in share.inputs:
            place = places.get(declared.name)
            if place is None:
                raise missing_input(declared, share.version)
            cells = self.cells[place::width]
            if missing and None in cells and not declared.nullable:
                raise _refused(declared, f"a missing value in row {cells.index(None)}")
            if declared.datatype is _BOOL:
                flags = self._flags(declared, cells)
                columns.append([*flags])
                json[declared.name] = flags
                continue
            if declared.datatype not in exact:
                cells = self._whole(declared, cells, -MAX_WHOLE, MAX_WHOLE)
            columns.append(numbers[place::width].tobytes())
            json[declared.name] = cells
        return Features(columns, json)

    def _only_floats(self, share: Share) -> bool:
        """Return whether all cells at once are what a version reads."""
        return share.names == self.order and share.datatypes <= _EXACT_FLOATS[self.datatype]

    def _by_name(self) -> dict[str, Json]:
        width = len(self.order)
        if len(self.cells) == width:
            return {name: [cell] for name, cell in zip(self.order, self.cells, strict=True)}
        # orjson writes numbers in half the time that msgspec takes.
        return {
            name: msgspec.Raw(orjson.dumps(self.cells[place::width]))
            for place, name in enumerate(self.order)
        }

    def _flags(self, declared: Input, cells: list[_Number]) -> list[bool | None]:
        if self.datatype != _BOOL:
            cells = self._whole(declared, cells, 0, 1)
        return [cell if cell is None else bool(cell) for cell in cells]

    def _whole(
        self, declared: Input, cells: list[_Number], least: int, most: int
    ) -> list[_Number]:
        """Return the cells as whole numbers, when that is what they are."""
        if declared.datatype not in _INTO_WHOLE or self.datatype == _BOOL:
            raise _refused(declared, f"{self.datatype} in {PACKED!r}")
        whole = [cell if cell is None else int(cell) for cell in cells]
        if whole != cells or not all(cell is None or least <= cell <= most for cell in whole):
            row, cell = next(
                (row, cell)
                for row, cell in enumerate(cells)
                if cell is not None and not (cell == int(cell) and least <= cell <= most)
            )
            raise _refused(declared, f"{cell!r} in row {row}")
        return [*whole]


def _refused(declared: Input, found: str) -> BadRequestError:
    return BadRequestError(f"{declared.name}: expected {declared.datatype}; found {found}")


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
    cells, missing = _cells(sent, width)
    if len(cells) != rows * width:
        raise BadRequestError(
            f"{PACKED}: expected {rows * width} cells as its shape says; found {len(cells)}"
        )
    column = None if missing else _doubles(len(cells)).pack(*cells)
    if sent.datatype == Datatype.FP32 and not _fits(cells, column):
        raise BadRequestError(f"{PACKED}: expected numbers that fit FP32; found a larger one")
    return Block(order, sent.datatype, cells, column)


@lru_cache(maxsize=1024)
def _doubles(count: int) -> Struct:
    """Return what packs so many numbers, in half the time that an array takes."""
    return Struct(f"<{count}d")


def _fits(cells: list[_Number], column: bytes | None) -> bool:
    """Return whether none of the numbers is too large for FP32."""
    if column is None:
        return fits_float32(cells)
    if len(column) <= _SHORT_BYTES:
        few = cast("list[float]", cells)
        return max(few) < _TOO_LARGE and min(few) > -_TOO_LARGE
    many = np.frombuffer(column)
    return bool(many.max() < _TOO_LARGE and many.min() > -_TOO_LARGE)


def _cells(sent: Sent, width: int) -> tuple[list[_Number], bool]:
    """Return the cells row by row, and whether one of them is None."""
    if isinstance(sent, Numbers):
        return cast("list[_Number]", sent.cells), sent.missing
    if sent.datatype not in _DECODERS:
        raise BadRequestError(
            f"{PACKED}: expected datatype {', '.join(_DECODERS)}, as JSON has; found"
            f" {sent.datatype[:20]!r}"
        )
    try:
        return _decoded(sent, _DECODERS[sent.datatype], width), False
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            return _decoded(sent, _NULLABLE[sent.datatype], width), True
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            found = str(error) if sent.size_bytes else "expected data; found none"
            raise BadRequestError(f"{PACKED}: {found}") from None


def _decoded(
    sent: Tensor | Field, decoders: tuple[_Decode, _DecodeRows], width: int
) -> list[_Number]:
    flat, nested = decoders
    return _joined(nested(sent.data), width) if is_nested(sent.data) else flat(sent.data)


def _joined(nested: list[list[_Number]], width: int) -> list[_Number]:
    for row, inner in enumerate(nested):
        if len(inner) != width:
            raise BadRequestError(
                f"{PACKED}: expected {width} cells a row; found {len(inner)} in row {row}"
            )
    return [cell for inner in nested for cell in inner]
