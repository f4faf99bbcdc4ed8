"""The tensors of an Open Inference request, read as the columns a version asks for."""

from array import array
from collections.abc import Callable, Sequence
from math import inf
from typing import Annotated, TypeAlias, cast

import msgspec

from gyral.contracts.deployment import Datatype, Input
from gyral.gateway.domain.rows import MAX_ROWS, Column

_Decode: TypeAlias = Callable[[msgspec.Raw], list[object]]

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_EntityKey = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Micros = Annotated[int, msgspec.Meta(ge=0, le=2**62 - 1)]


class BadRequestError(ValueError):
    """The request cannot be answered as it is; the message names the input."""


class Tensor(msgspec.Struct, gc=False):
    """An input of a request; its data stay JSON until a version says how to read them."""

    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw

    @property
    def size_bytes(self) -> int:
        """How much it may add to the log."""
        return len(memoryview(self.data))

    def read(self, declared: Input, rows: int) -> "Reading":
        """Return its cells as the runtime and the log take them; raises BadRequestError."""
        return read_feature(self, declared, rows)


class Requested(msgspec.Struct, gc=False):
    """An output the client asks for."""

    name: str


class InferRequest(msgspec.Struct, gc=False):
    """What is read of a request; other fields are ignored, as the protocol asks."""

    inputs: list[Tensor]
    id: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    outputs: list[Requested] | None = None


class Reading(msgspec.Struct, gc=False):
    """One input, read."""

    column: Column
    """As the runtime takes it."""
    json: msgspec.Raw | Sequence[float | str | None]
    """As the prediction log takes it: a flat array, of JSON or to become one."""


def _decoders(cell: object) -> tuple[_Decode, _Decode]:
    """Return the decoders of a flat array of such cells, and of one nested by rows."""
    row = Annotated[list[cell], msgspec.Meta(min_length=1, max_length=1)]  # type: ignore[valid-type]
    flat = msgspec.json.Decoder(list[cell]).decode  # type: ignore[valid-type]
    return cast("tuple[_Decode, _Decode]", (flat, msgspec.json.Decoder(list[row]).decode))


_CELLS: dict[Datatype, object] = {
    Datatype.BOOL: bool,
    Datatype.INT64: Int64,
    Datatype.FP32: float,
    Datatype.FP64: float,
    Datatype.BYTES: str,
}
_READ = {
    (datatype, nullable): _decoders(cell | None if nullable else cell)  # type: ignore[operator]
    for datatype, cell in _CELLS.items()
    for nullable in (False, True)
}
_ENTITY_KEYS = _decoders(_EntityKey | None)
_EVENT_TIMES = _decoders(_Micros)
_EVENT_TIMES_IF_ANY = _decoders(_Micros | None)
_encode = msgspec.json.Encoder().encode
_NAN = float("nan")


def rows_of(tensors: Sequence[Tensor]) -> int:
    """Return the number of rows that all inputs share.

    Raises:
        BadRequestError: no input, a shape that is not [n] or [n, 1], another or a wrong n.
    """
    if not tensors:
        raise BadRequestError("inputs: expected one for each feature; found none")
    rows = check_rows(tensors[0])
    for tensor in tensors:
        expect_rows(tensor, rows)
    return rows


def check_rows(tensor: Tensor) -> int:
    """Return a tensor's first axis; raises BadRequestError when that is no number of rows."""
    rows = tensor.shape[0] if tensor.shape else 0
    if not 0 < rows <= MAX_ROWS:
        raise BadRequestError(
            f"{tensor.name[:80]}: expected 1 to {MAX_ROWS} rows; found {shape_of(tensor)}"
        )
    return rows


def expect_rows(tensor: Tensor, rows: int) -> None:
    """Raise BadRequestError unless a tensor is a column of so many rows."""
    if tensor.shape not in ([rows], [rows, 1]):
        raise BadRequestError(
            f"{tensor.name[:80]}: expected shape [{rows}] or [{rows}, 1]; found"
            f" {shape_of(tensor)}"
        )


def read_feature(tensor: Tensor, declared: Input, rows: int) -> Reading:
    """Return a feature's cells as the runtime and the log take them.

    Raises:
        BadRequestError: another datatype or number of cells, or a cell of another type.
    """
    if tensor.datatype != declared.datatype:
        raise BadRequestError(
            f"{tensor.name}: expected {declared.datatype}; found {tensor.datatype[:20]!r}"
        )
    cells, json = _cells(tensor, _READ[declared.datatype, declared.nullable], rows)
    if declared.datatype in (Datatype.BYTES, Datatype.BOOL):
        return Reading(cells, json)  # type: ignore[arg-type]
    column = float_column(cast("list[float | None]", cells))
    if declared.datatype is Datatype.FP32 and not fits_float32(column):
        raise BadRequestError(
            f"{tensor.name}: expected numbers that fit FP32; found a larger one"
        )
    return Reading(column, json)


def float_column(cells: Sequence[float | None]) -> bytes:
    """Return numbers as the runtime takes them: float64, missing as NaN."""
    if None in cells:
        cells = [_NAN if cell is None else cell for cell in cells]
    return array("d", cast("Sequence[float]", cells)).tobytes()


def fits_float32(column: bytes) -> bool:
    """Return whether none of a column's numbers is too large for FP32."""
    rounded = array("f", array("d", column))
    return inf not in rounded and -inf not in rounded


def read_entity_keys(tensor: Tensor, rows: int) -> tuple[list[str | None], msgspec.Raw]:
    """Return the rows' entity keys, and the same as JSON.

    Raises:
        BadRequestError: they are no BYTES of 1 to 256 characters, one a row.
    """
    _expect(tensor, Datatype.BYTES)
    cells, json = _cells(tensor, _ENTITY_KEYS, rows)
    return cells, json  # type: ignore[return-value]


def read_event_times(
    tensor: Tensor, rows: int, *, required: bool, latest_us: int
) -> msgspec.Raw:
    """Return the rows' event times as JSON: microseconds since 1970-01-01 UTC.

    Raises:
        BadRequestError: they are no INT64 >= 0, one is missing that must be there, or has not
            come yet.
    """
    _expect(tensor, Datatype.INT64)
    cells, json = _cells(tensor, _EVENT_TIMES if required else _EVENT_TIMES_IF_ANY, rows)
    latest = max((cell for cell in cast("list[int | None]", cells) if cell), default=0)
    if latest > latest_us:
        raise BadRequestError(
            f"{tensor.name}: expected µs UTC of at most {latest_us}, a little after now; found"
            f" {latest}"
        )
    return json


def _expect(tensor: Tensor, datatype: Datatype) -> None:
    if tensor.datatype != datatype:
        raise BadRequestError(
            f"{tensor.name}: expected datatype {datatype}; found {tensor.datatype[:20]!r}"
        )


def _cells(
    tensor: Tensor, decoders: tuple[_Decode, _Decode], rows: int
) -> tuple[list[object], msgspec.Raw]:
    flat, nested = decoders
    json = tensor.data
    try:
        if tensor.shape == [rows, 1] and is_nested(json):
            cells = [row[0] for row in nested(json)]  # type: ignore[index]
            json = msgspec.Raw(_encode(cells))
        else:
            cells = flat(json)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"{tensor.name}: {error}") from None
    if len(cells) != rows:
        raise BadRequestError(
            f"{tensor.name}: expected {rows} cells as its shape says; found {len(cells)}"
        )
    return cells, json


def is_nested(json: msgspec.Raw) -> bool:
    """Return whether an array begins with an array."""
    start = bytes(memoryview(json)[:64]).split()
    return b"".join(start).startswith(b"[[")


def shape_of(tensor: Tensor) -> str:
    """Return a tensor's shape as a message shows it."""
    return str(tensor.shape)[:40]
