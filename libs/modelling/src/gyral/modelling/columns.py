"""Raw columns as they arrive from the lake or from a request, read as numbers or as text."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]

Column: TypeAlias = (
    Floats | Ints | Bools | NDArray[np.float32] | NDArray[np.object_] | NDArray[np.str_]
)
"""One field of n rows, shape (n,): missing is NaN among floats and None among objects."""

Columns: TypeAlias = Mapping[str, Column]

_TEXT_TYPES = frozenset({str, type(None)})


class ColumnError(ValueError):
    """A raw column cannot be read as its declaration says."""


def numbers(name: str, column: Column) -> Floats:
    """Read a column as float64, missing as NaN; booleans become 0 and 1.

    Raises:
        ColumnError: a cell is text or of another type that is no number.
    """
    if column.dtype == np.float64:
        return column  # type: ignore[return-value]
    if column.dtype.kind in "fiub":
        return column.astype(np.float64)
    try:
        # numpy would quietly read the text "1.5" as a number: refuse it before it can.
        if column.dtype.kind == "O" and str not in set(map(type, column.tolist())):
            return column.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise _not_a_number(name, column) from error
    raise _not_a_number(name, column)


def texts(column: Column) -> Sequence[str | None]:
    """Read a column as categories, missing as None.

    Whole numbers lose their fraction sign (1.0 reads "1") and booleans read "true" and
    "false", so that a table of integers and a request of JSON numbers name one category alike.
    """
    cells: list[str | None] = column.tolist()
    if column.dtype.kind == "U" or _TEXT_TYPES.issuperset(map(type, cells)):
        return cells
    return [_text(cell) for cell in cells]


def categories_by_frequency(column: Column) -> list[str]:
    """List the distinct categories, the frequent first, ties by name."""
    seen = Counter(text for text in texts(column) if text is not None)
    return sorted(seen, key=lambda text: (-seen[text], text))


def rows_of(columns: Columns, names: Sequence[str]) -> int:
    """Count the rows that the named columns have in common.

    Raises:
        ColumnError: a column is absent, is not one-dimensional or differs in length.
    """
    rows = -1
    for name in names:
        column = columns.get(name)
        if column is None:
            message = f"{name}: expected a column, found none; given: {', '.join(columns)}"
            raise ColumnError(message)
        if column.ndim != 1:
            raise ColumnError(f"{name}: expected shape (n,), found {column.shape}")
        if rows not in (-1, len(column)):
            message = f"{name}: expected {rows} rows as in {names[0]}, found {len(column)}"
            raise ColumnError(message)
        rows = len(column)
    return max(rows, 0)


def _text(cell: object) -> str | None:
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, bool | np.bool_):
        return "true" if cell else "false"
    if isinstance(cell, float):
        if math.isnan(cell):
            return None
        return str(int(cell)) if cell.is_integer() else repr(cell)
    return str(cell)


def _not_a_number(name: str, column: Column) -> ColumnError:
    found = next(
        (cell for cell in column.tolist() if not isinstance(cell, int | float | None)), None
    )
    return ColumnError(f"{name}: expected numbers, found {found!r}")
