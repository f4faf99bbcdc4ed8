"""Columns of any origin, made into what a stream's fields are, and into cells of JSON."""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gyral.contracts.specs.stream import FieldType
from gyral.modelling.columns import Column, Ints

Cells = Column
TIME = pa.timestamp("us", tz="UTC")
_INT64 = pa.int64()
_BAD = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)
_ABSENT = pa.array(["", "null", "NULL", "NaN", "nan", "NA", "N/A", "n/a", "#N/A"], pa.string())
"""What stands for no value in a text that is no text field's."""
_OFFSET = r":\d\d(\.\d+)?([Zz]|[+-]\d\d(:?\d\d)?)$"
_WANTED: Mapping[FieldType, str] = {
    FieldType.STRING: "text",
    FieldType.INTEGER: "a whole number",
    FieldType.NUMBER: "a finite number",
    FieldType.BOOLEAN: "true or false",
    FieldType.TIMESTAMP: "times such as 2013-01-01T05:15:00Z",
}


class MisfitError(ValueError):
    """A column that holds what its field cannot.

    Args:
        at: number of the first such cell, from 0.
        expected: what the field holds.
        found: the cell.
    """

    def __init__(self, at: int, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}; found {found}")
        self.at = at


def typed(column: pa.ChunkedArray, kind: FieldType) -> pa.ChunkedArray:
    """Return a column in the one Arrow type of its field; a text is read as what it spells.

    A time without an offset counts as UTC.

    Raises:
        MisfitError: a cell cannot be of that type.
    """
    plain = _plain(column)
    try:
        return _TYPED[kind](plain)
    except _BAD as error:
        at = _first_misfit(plain, _TYPED[kind])
        found = f"{str(plain[at])[:60]!r}, of type {str(plain.type)[:60]}"
        raise MisfitError(at, _WANTED[kind], found) from error


def cells(column: pa.ChunkedArray) -> Cells:
    """Return a typed column as JSON carries it; a null of a number column is NaN here."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        return _texts(column)
    if pa.types.is_float64(kind) or (pa.types.is_int64(kind) and not column.null_count):
        numbers: Cells = column.to_numpy(zero_copy_only=False)
        return numbers
    return objects(column)


def objects(column: pa.ChunkedArray) -> Cells:
    """Return a column as Python's own values."""
    found = np.empty(len(column), dtype=object)
    found[:] = column.to_pylist()
    return found


def micros(times: pa.ChunkedArray) -> Ints:
    """Return times without nulls as microseconds since 1970, shape (n,)."""
    counted: Ints = times.cast(_INT64).to_numpy(zero_copy_only=False)
    return counted


def rfc3339(times_us: Ints) -> Cells:
    """Return times as text with an offset, shape (n,)."""
    texts = np.datetime_as_string(times_us.astype("datetime64[us]"), timezone="UTC")
    found: Cells = texts.astype(object)
    return found


def _texts(times: pa.ChunkedArray) -> Cells:
    texts = rfc3339(micros(times.fill_null(0))).astype(np.object_)
    if times.null_count:
        texts[times.is_null().to_numpy(zero_copy_only=False)] = None
    return texts


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    wide = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return column.cast(pa.string()) if wide else column


def _first_misfit(
    column: pa.ChunkedArray, cast: Callable[[pa.ChunkedArray], pa.ChunkedArray]
) -> int:
    """Return the first cell that cannot be cast: halving, as a slice fails if a cell does."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            cast(column.slice(low, middle - low))
        except _BAD:
            high = middle
        else:
            low = middle
    return low


def _spelled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a text column's spellings of values, null where there is none."""
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.is_in(trimmed, _ABSENT), pa.scalar(None, pa.string()), trimmed)


def _is_text(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(column.type))


def _integers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not _is_text(column):
        return column.cast(_INT64)
    spelled = _spelled(column)
    try:
        return spelled.cast(_INT64)
    except pa.ArrowInvalid:
        return spelled.cast(pa.float64()).cast(_INT64)  # 3.0 is whole, 3.5 is refused


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    numbers = (_spelled(column) if _is_text(column) else column).cast(pa.float64())
    if pc.any(pc.is_inf(numbers)).as_py():
        raise pa.ArrowInvalid("infinite")
    # NaN is how columns say that there is no number; JSON and the lake say null.
    return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)


def _booleans(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return (_spelled(column) if _is_text(column) else column).cast(pa.bool_())


def _times(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if _is_text(column):
        return _times_of_text(_spelled(column))
    kind = column.type
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_null(kind)):
        raise pa.ArrowInvalid("a number says nothing of its unit")
    return column.cast(TIME) if pa.types.is_timestamp(kind) else _utc(column)


def _times_of_text(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    told = pc.match_substring_regex(texts, _OFFSET)
    if pc.all(told, min_count=0).as_py():
        return texts.cast(TIME)
    if not pc.any(told, min_count=0).as_py():
        return _utc(texts)
    return pc.if_else(told, texts, pc.binary_join_element_wise(texts, "Z", "")).cast(TIME)


def _utc(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.timestamp("us")).cast(TIME)


_TYPED: Mapping[FieldType, Callable[[pa.ChunkedArray], pa.ChunkedArray]] = {
    FieldType.STRING: lambda column: column.cast(pa.string()),
    FieldType.INTEGER: _integers,
    FieldType.NUMBER: _numbers,
    FieldType.BOOLEAN: _booleans,
    FieldType.TIMESTAMP: _times,
}
