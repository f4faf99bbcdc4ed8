"""Answers on stdout: tables for people, JSON for programs."""

import sys
from collections.abc import Mapping, Sequence

import orjson

Row = Mapping[str, object]


def rows(found: Sequence[Row], columns: Sequence[str], form: str) -> None:
    """Print rows; a table shows only `columns`, JSON everything."""
    if form == "json":
        document(list(found))
        return
    from rich.console import Console  # noqa: PLC0415 - programs need not wait for it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.upper().replace("_", " "), overflow="fold")
    for row in found:
        # Names and reasons are others' text: never markup.
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    Console().print(table)


def document(value: object) -> None:
    """Print one JSON document."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    sys.stdout.write(text.decode() + "\n")


def say(line: str) -> None:
    """Print a line for people."""
    sys.stdout.write(f"{line}\n")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list | tuple):
        return "; ".join(_cell(each) for each in value)
    text = str(value)
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
