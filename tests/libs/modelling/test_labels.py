import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.modelling.labels import LabelError, LabelRule, Operator

PYTHON = {
    Operator.GREATER: operator.gt,
    Operator.AT_LEAST: operator.ge,
    Operator.LESS: operator.lt,
    Operator.AT_MOST: operator.le,
    Operator.EQUAL: operator.eq,
    Operator.UNEQUAL: operator.ne,
}


def test_a_late_arrival_is_positive_and_a_missing_one_unknown():
    rule = LabelRule.parse("arrival_delay_min > 15")
    labels = rule.evaluate({"arrival_delay_min": np.array([15.0, 15.5, np.nan])})
    assert labels.positive.tolist() == [False, True, False]
    assert labels.known.tolist() == [True, True, False]


def test_a_missing_number_is_not_positive_for_being_unequal():
    labels = LabelRule.parse("x != 3").evaluate({"x": np.array([np.nan, 2.0])})
    assert (labels.positive.tolist(), labels.known.tolist()) == ([False, True], [False, True])


def test_texts_are_compared_whole():
    columns = {"status": np.array(["fraud", "Fraud", None], dtype=object)}
    labels = LabelRule.parse('status=="fraud"').evaluate(columns)
    assert labels.positive.tolist() == [True, False, False]
    labels = LabelRule.parse('status != "fraud"').evaluate(columns)
    assert labels.positive.tolist() == [False, True, False]
    assert labels.known.tolist() == [True, True, False]


def test_booleans_are_compared_with_true_and_false():
    columns = {"churned": np.array([True, False, None], dtype=object)}
    labels = LabelRule.parse(" churned == true ").evaluate(columns)
    assert (labels.positive.tolist(), labels.known.tolist()) == (
        [True, False, False],
        [True, True, False],
    )


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("-1.5e3", -1500.0),
        (".5", 0.5),
        ("+7", 7.0),
        ('"a \\"b\\" é"', 'a "b" é'),
        ("false", False),
    ],
)
def test_literals_are_read_as_json_reads_them(text, literal):
    assert LabelRule.parse(f"x == {text}") == LabelRule("x", Operator.EQUAL, literal)


@pytest.mark.parametrize(
    "expression",
    [
        *(
            "",
            "x",
            "x >",
            "> 3",
            "x > y",
            "x > 3 and y > 2",
            "x = 3",
            "3 < x",
            "x > 3; import os",
        ),
        *("__import__('os').system('id') == 1", "x > 0x10", "x == 'single'", 'x == "\\q"'),
        *(
            'x > "text"',
            "x >= true",
            "x == True",
            "x == 1_000",
            "x == nan",
            "x > \u0661\u0665",
            "x < 1e999",
        ),
    ],
)
def test_whatever_is_outside_the_grammar_is_refused(expression):
    with pytest.raises(LabelError, match=r"^positive: expected"):
        LabelRule.parse(expression)


def test_a_column_of_another_type_is_named():
    with pytest.raises(LabelError, match="label field x: expected text, found float64"):
        LabelRule.parse('x == "a"').evaluate({"x": np.zeros(1)})
    with pytest.raises(LabelError, match="label field x: expected numbers, found 'a'"):
        LabelRule.parse("x > 1").evaluate({"x": np.array(["a"], dtype=object)})
    with pytest.raises(LabelError, match="label field x: expected a column, found none"):
        LabelRule.parse("x > 1").evaluate({})


finite = st.integers(-3, 3).map(lambda n: n / 2)


@given(st.sampled_from(list(Operator)), finite, st.lists(finite))
def test_comparisons_are_those_of_python(op, literal, cells):
    labels = LabelRule.parse(f"x {op} {literal}").evaluate({"x": np.array(cells, dtype=float)})
    assert labels.positive.tolist() == [PYTHON[op](cell, literal) for cell in cells]
    assert labels.known.all()
