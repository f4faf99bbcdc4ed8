"""What counts as positive: one comparison of one field, parsed from a closed grammar."""

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import msgspec
import numpy as np

from gyral.modelling.columns import Bools, ColumnError, Columns, numbers, rows_of, texts

_EXPRESSION = re.compile(
    r"""\s*(?P<field>[A-Za-z_][A-Za-z0-9_]*)
        \s*(?P<operator>>=|<=|==|!=|>|<)
        \s*(?P<literal>"(?:[^"\\]|\\.)*"|true|false|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
        \s*""",
    re.VERBOSE | re.ASCII,
)


class LabelError(ValueError):
    """An expression is outside the grammar, or does not fit the column it compares."""


class Operator(StrEnum):
    """The six comparisons."""

    GREATER = ">"
    AT_LEAST = ">="
    LESS = "<"
    AT_MOST = "<="
    EQUAL = "=="
    UNEQUAL = "!="


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of n rows: `positive` means something only where `known` is true."""

    positive: Bools
    known: Bools


@dataclass(frozen=True, slots=True)
class LabelRule:
    """A parsed expression such as `arrival_delay_min > 15` or `status == "fraud"`."""

    field: str
    operator: Operator
    literal: float | str | bool

    @classmethod
    def parse(cls, expression: str) -> Self:
        """Read `field operator literal`; a literal is a number, "text", true or false.

        Raises:
            LabelError: the expression is anything else, or orders text or booleans.
        """
        match = _EXPRESSION.fullmatch(expression)
        if match is None:
            raise LabelError(
                "positive: expected `field operator literal`, the operator one of "
                f"{' '.join(Operator)}, the literal a number, a text in double quotes, true "
                f"or false; found {expression!r}"
            )
        operator, literal = Operator(match["operator"]), _literal(match["literal"])
        ordered = operator not in {Operator.EQUAL, Operator.UNEQUAL}
        if ordered and isinstance(literal, bool | str):
            raise LabelError(
                f"positive: expected == or != before {match['literal']}, found {operator}"
            )
        return cls(match["field"], operator, literal)

    def evaluate(self, columns: Columns) -> Labels:
        """Compare every row; a missing cell has no known label.

        Raises:
            LabelError: the field is absent, or its column is no text or no number as compared.
        """
        try:
            rows_of(columns, [self.field])
            if isinstance(self.literal, str):
                return self._compare_texts(columns)
            return self._compare_numbers(columns)
        except ColumnError as error:
            raise LabelError(f"label field {error}") from error

    def _compare_texts(self, columns: Columns) -> Labels:
        column = columns[self.field]
        if column.dtype.kind not in "OU":
            raise LabelError(f"label field {self.field}: expected text, found {column.dtype}")
        cells = texts(column)
        known = np.array([cell is not None for cell in cells], dtype=np.bool_)
        same = np.array([cell == self.literal for cell in cells], dtype=np.bool_)
        return Labels(known & (same if self.operator is Operator.EQUAL else ~same), known)

    def _compare_numbers(self, columns: Columns) -> Labels:
        cells = numbers(self.field, columns[self.field])
        literal = float(self.literal)
        known = ~np.isnan(cells)
        match self.operator:
            case Operator.GREATER:
                positive = cells > literal
            case Operator.AT_LEAST:
                positive = cells >= literal
            case Operator.LESS:
                positive = cells < literal
            case Operator.AT_MOST:
                positive = cells <= literal
            case Operator.EQUAL:
                positive = cells == literal
            case Operator.UNEQUAL:
                positive = cells != literal
        return Labels(positive & known, known)


def _literal(text: str) -> float | str | bool:
    if text in {"true", "false"}:
        return text == "true"
    if not text.startswith('"'):
        number = float(text)
        if math.isinf(number):
            raise LabelError(f"positive: expected a finite number, found {text}")
        return number
    try:
        return msgspec.json.decode(text, type=str)
    except msgspec.DecodeError as error:
        raise LabelError(f"positive: expected a JSON string, found {text}") from error
