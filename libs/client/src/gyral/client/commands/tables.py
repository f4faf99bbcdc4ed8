"""Tables as lines of text: no id and no time is ever broken, sentences only on a terminal."""

import textwrap
from collections.abc import Sequence

_GAP = "  "
_LEAST = 20
"""Columns that a sentence is given even on a narrow terminal."""


def lines(
    head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None
) -> Sequence[str]:
    """Return a table; columns are as wide as their widest cell.

    Args:
        head: names of the columns.
        rows: text of each cell.
        width: of the terminal; only cells with spaces are broken to fit. None: no terminal.
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    if width is not None:
        widths = _fitted(widths, _sentences(rows, len(head)), width)
        return [line for row in (head, *rows) for line in _broken(row, widths)]
    return [_line(row, widths) for row in (head, *rows)]


def _sentences(rows: Sequence[Sequence[str]], columns: int) -> Sequence[int]:
    return [column for column in range(columns) if any(" " in row[column] for row in rows)]


def _fitted(widths: Sequence[int], sentences: Sequence[int], width: int) -> list[int]:
    """Return widths that fit where they can: the widest sentences give way first."""
    fitted = list(widths)
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    while over > 0 and sentences:
        widest = max(sentences, key=lambda column: fitted[column])
        if fitted[widest] <= _LEAST:
            break
        fitted[widest] -= 1
        over -= 1
    return fitted


def _broken(row: Sequence[str], widths: Sequence[int]) -> Sequence[str]:
    cells = [
        textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False) or [""]
        for cell, width in zip(row, widths, strict=True)
    ]
    height = max(map(len, cells))
    return [
        _line([cell[number] if number < len(cell) else "" for cell in cells], widths)
        for number in range(height)
    ]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = zip(cells, widths, strict=True)
    return _GAP.join(cell.ljust(width) for cell, width in pairs).rstrip()
