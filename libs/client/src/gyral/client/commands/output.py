"""Answers on stdout: tables for people, JSON for programs."""

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime

import orjson

from gyral.client.commands import tables

Row = Mapping[str, object]
_UTC = re.compile(r"(\d\d:\d\d(?::\d\d(?:\.\d+)?)?)\+00:00\b")
"""The end of a time, wherever it stands; all our times are in UTC."""


def rows(found: Sequence[Row], columns: Sequence[str], form: str) -> None:
    """Print rows; a table shows only `columns`, JSON everything."""
    if form == "json":
        document(list(found))
        return
    head = [column.upper().replace("_", " ") for column in columns]
    cells = [[_cell(row.get(column)) for column in columns] for row in found]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in tables.lines(head, cells, width):
        say(line)


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
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    text = _UTC.sub(r"\1Z", text)
    # Names and reasons are others' text: never orders to a terminal.
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
