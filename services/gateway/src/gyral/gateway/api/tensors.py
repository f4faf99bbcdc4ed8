"""The tensors of an Open Inference request, read as the columns a version asks for."""

from array import array
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Annotated, Protocol, TypeAlias, cast

import msgspec

from gyral.contracts.deployment import Datatype, Input
from gyral.gateway.api.datatypes import EXACT, KINDS, holders
from gyral.gateway.domain.rows import MAX_ROWS, Column, Columns

Cell: TypeAlias = float | bool | str | None
Json: TypeAlias = msgspec.Raw | Sequence[Cell]
"""Cells on their way to the log: JSON, or what becomes it."""
Parameters: TypeAlias = Mapping[str, str | bool | int | float | None]
_Decode: TypeAlias = Callable[[msgspec.Raw], list[Cell]]
_DecodeRows: TypeAlias = Callable[[msgspec.Raw], list[list[Cell]]]

_EntityKey = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Micros = Annotated[int, msgspec.Meta(ge=0, le=2**62 - 1)]


class BadRequestError(ValueError):
    """The request cannot be answered as it is; the message names the input."""


class Shaped(Protocol):
    """What has a name and a shape."""

    @property
    def name(self) -> str:
        """Which input it is."""

    @property
    def shape(self) -> Sequence[int]:
        """Its axes, rows first."""

    @property
    def datatype(self) -> str:
        """What its elements are."""


class Reading(msgspec.Struct, gc=False):
    """One input, read."""

    column: Column
    """As the runtime takes it."""
    json: Json
    """As the prediction log takes it: a flat array."""


class Features(msgspec.Struct, frozen=True, gc=False):
    """What one version reads of a request."""

    columns: Columns
    json: dict[str, Json]


class Tensor(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An input of a request; its data stay JSON until a version says how to read them."""

    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, str | bool | int | float | None] | None = None

    @property
    def size_bytes(self) -> int:
        """How much it may add to the log."""
        return len(memoryview(self.data))

    def read(self, declared: Input, rows: int) -> Reading:
        """Return its cells as the runtime and the log take them; raises BadRequestError."""
        if self.datatype != declared.datatype:
            expect_exact(self, declared.datatype)
        decoders = _READ.get((self.datatype, declared.nullable))
        if decoders is None:
            raise BadRequestError(
                f"{self.name}: expected {self.datatype} as binary data, as JSON has none of it;"
                " found JSON"
            )
        cells, json = _cells(self, decoders, rows)
        if self.datatype == _FP32 and not fits_float32(cells):
            raise BadRequestError(
                f"{self.name}: expected numbers that fit FP32; found a larger one"
            )
        return reading(declared.datatype, cells, json)


class Field(msgspec.Struct, gc=False):
    """An input whose data are JSON of no datatype but the one a version declares."""

    name: str
    shape: list[int]
    data: msgspec.Raw
    datatype: str = ""

    @property
    def size_bytes(self) -> int:
        """How much it may add to the log."""
        return len(memoryview(self.data))

    def read(self, declared: Input, rows: int) -> Reading:
        """Return its cells as the runtime and the log take them; raises BadRequestError."""
        typed = Tensor(self.name, self.shape, declared.datatype.value, self.data)
        return typed.read(declared, rows)


def _pair(cell: object) -> tuple[_Decode, _DecodeRows]:
    """Return the decoders of a flat array of such cells, and of one nested by rows."""
    row = Annotated[list[cell], msgspec.Meta(min_length=1, max_length=1)]  # type: ignore[valid-type]
    flat = msgspec.json.Decoder(list[cell]).decode  # type: ignore[valid-type]
    nested = msgspec.json.Decoder(list[row]).decode
    return cast("_Decode", flat), cast("_DecodeRows", nested)


def cell_type(datatype: str) -> object:
    """Return the type of a datatype's cells in JSON."""
    kind = KINDS[datatype]
    if kind.whole:
        return Annotated[int, msgspec.Meta(ge=kind.least, le=min(kind.most, 2**63 - 1))]
    return {"BOOL": bool, "BYTES": str}.get(datatype, float)


_READ = {
    (datatype, nullable): _pair(cell_type(datatype) | None if nullable else cell_type(datatype))  # type: ignore[operator]
    for datatype, kind in KINDS.items()
    for nullable in (False, True)
    if kind.json
}
_ENTITY_KEYS = _pair(_EntityKey | None)
_EVENT_TIMES = _pair(_Micros)
_EVENT_TIMES_IF_ANY = _pair(_Micros | None)
_encode = msgspec.json.Encoder().encode
_NAN = float("nan")
_FP32 = Datatype.FP32.value
_SPACES = (b" ", b"\n", b"\r", b"\t")
_NOT_NUMBERS = (Datatype.BYTES, Datatype.BOOL)


def rows_of(tensors: Sequence[Shaped]) -> int:
    """Return the number of rows that all inputs share.

    Raises:
        BadRequestError: no input, a shape that is not [n] or [n, 1], another or a wrong n.
    """
    if not tensors:
        raise BadRequestError("inputs: expected one for each feature; found none")
    rows = check_rows(tensors[0])
    flat, column = [rows], [rows, 1]
    for tensor in tensors:
        if tensor.shape != flat and tensor.shape != column:  # noqa: PLR1714 - on the hot path
            expect_rows(tensor, rows)
    return rows


def check_rows(tensor: Shaped) -> int:
    """Return a tensor's first axis; raises BadRequestError when that is no number of rows."""
    rows = tensor.shape[0] if tensor.shape else 0
    if not 0 < rows <= MAX_ROWS:
        raise BadRequestError(
            f"{tensor.name[:80]}: expected 1 to {MAX_ROWS} rows; found {shape_of(tensor)}"
        )
    return rows


def expect_rows(tensor: Shaped, rows: int) -> None:
    """Raise BadRequestError unless a tensor is a column of so many rows."""
    if tensor.shape not in ([rows], [rows, 1]):
        raise BadRequestError(
            f"{tensor.name[:80]}: expected shape [{rows}] or [{rows}, 1]; found"
            f" {shape_of(tensor)}"
        )


def expect_exact(tensor: Shaped, declared: Datatype) -> None:
    """Raise BadRequestError unless an input of this datatype holds what was sent exactly."""
    if tensor.datatype != declared and (tensor.datatype, declared) not in EXACT:
        raise BadRequestError(
            f"{tensor.name[:80]}: expected {holders(declared)}; found {tensor.datatype[:20]!r}"
        )


def reading(datatype: Datatype, cells: Sequence[Cell], json: Json) -> Reading:
    """Return cells of the right type as the runtime and the log take them."""
    if datatype in _NOT_NUMBERS:
        return Reading(cells, json)  # type: ignore[arg-type]
    return Reading(float_column(cells), json)


def float_column(cells: Sequence[Cell]) -> bytes:
    """Return numbers as the runtime takes them: float64, missing as NaN."""
    try:
        return array("d", cast("Sequence[float]", cells)).tobytes()
    except TypeError:  # one of them is missing
        filled = [_NAN if cell is None else cell for cell in cells]
        return array("d", filled).tobytes()  # type: ignore[type-var]


def fits_float32(cells: Sequence[Cell]) -> bool:
    """Return whether none of the numbers is too large for FP32."""
    try:
        rounded = array("f", cast("Sequence[float]", cells))
    except TypeError:  # one of them is missing
        rounded = array("f", [cell for cell in cells if cell is not None])  # type: ignore[misc]
    # None of them was infinite before: a sum of float32, in float64, is finite as they are.
    return isfinite(sum(rounded))


def read_entity_keys(tensor: Tensor, rows: int) -> tuple[list[str | None], msgspec.Raw]:
    """Return the rows' entity keys, and the same as JSON.

    Raises:
        BadRequestError: they are no BYTES of 1 to 256 characters, one a row.
    """
    expect_exact(tensor, Datatype.BYTES)
    cells, json = _cells(tensor, _ENTITY_KEYS, rows)
    return cells, json  # type: ignore[return-value]


def read_event_times(
    tensor: Tensor, rows: int, *, required: bool, latest_us: int
) -> msgspec.Raw:
    """Return the rows' event times as JSON: microseconds since 1970-01-01 UTC.

    Raises:
        BadRequestError: they are no whole numbers >= 0, one is missing that must be there, or
            has not come yet.
    """
    expect_exact(tensor, Datatype.INT64)
    cells, json = _cells(tensor, _EVENT_TIMES if required else _EVENT_TIMES_IF_ANY, rows)
    latest = max((cell for cell in cast("list[int | None]", cells) if cell), default=0)
    if latest > latest_us:
        raise BadRequestError(
            f"{tensor.name}: expected µs UTC of at most {latest_us}, a little after now; found"
            f" {latest}"
        )
    return json


def _cells(
    tensor: Tensor, decoders: tuple[_Decode, _DecodeRows], rows: int
) -> tuple[list[Cell], msgspec.Raw]:
    flat, nested = decoders
    json = tensor.data
    try:
        if len(tensor.shape) > 1 and is_nested(json):
            cells = [row[0] for row in nested(json)]
            json = msgspec.Raw(_encode(cells))
        else:
            cells = flat(json)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        found = str(error) if tensor.size_bytes else "expected data; found none"
        raise BadRequestError(f"{tensor.name[:80]}: {found}") from None
    if len(cells) != rows:
        raise BadRequestError(
            f"{tensor.name[:80]}: expected {rows} cells as its shape says; found {len(cells)}"
        )
    return cells, json


def is_nested(json: msgspec.Raw) -> bool:
    """Return whether an array begins with an array."""
    view = memoryview(json)
    begins = bytes(view[:2])
    if begins[1:] not in _SPACES:
        return begins == b"[["
    return bytes(view[1:64]).lstrip().startswith(b"[")


def missing_input(declared: Input, version: int) -> BadRequestError:
    """Return what to say when a feature does not come."""
    return BadRequestError(
        f"{declared.name}: expected an input of type {declared.datatype}, as version {version}"
        " reads it; found none"
    )


def shape_of(tensor: Shaped) -> str:
    """Return a tensor's shape as a message shows it."""
    return str(tensor.shape)[:40]
