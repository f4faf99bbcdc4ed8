import numpy as np
import pytest

from gyral.modelling.columns import (
    ColumnError,
    categories_by_frequency,
    numbers,
    rows_of,
    texts,
)


def objects(*cells):
    return np.array(cells, dtype=object)


def test_numbers_keep_missing_cells_as_nan():
    np.testing.assert_array_equal(numbers("x", objects(1, None, 2.5)), [1.0, np.nan, 2.5])


def test_booleans_are_zero_and_one():
    cells = np.array([True, False, None], dtype=object)
    np.testing.assert_array_equal(numbers("x", cells), [1, 0, np.nan])
    np.testing.assert_array_equal(numbers("x", np.array([True, False])), [1.0, 0.0])


@pytest.mark.parametrize(
    "column", [objects(1.0, "1.5"), objects(1.0, []), np.array(["1"]), objects("a", None)]
)
def test_what_is_no_number_is_refused_by_name(column):
    with pytest.raises(ColumnError, match=r"^fare: expected numbers, found"):
        numbers("fare", column)


def test_an_integer_names_the_same_category_in_a_table_and_in_a_request():
    assert texts(np.array([7, 12])) == ["7", "12"]
    assert texts(np.array([7.0, np.nan])) == ["7", None]
    assert texts(objects(7, 7.0, 7.5, None, "7")) == ["7", "7", "7.5", None, "7"]
    assert texts(np.array([True, False])) == ["true", "false"]


def test_categories_come_by_frequency_then_by_name():
    column = objects("b", "c", "a", "c", None, None, None)
    assert categories_by_frequency(column) == ["c", "a", "b"]


def test_columns_that_do_not_fit_together_are_refused():
    columns = {"a": np.zeros(2), "b": np.zeros(3), "c": np.zeros((2, 1))}
    assert rows_of(columns, ["a"]) == 2
    with pytest.raises(ColumnError, match="b: expected 2 rows as in a, found 3"):
        rows_of(columns, ["a", "b"])
    with pytest.raises(ColumnError, match="d: expected a column, found none; given: a, b, c"):
        rows_of(columns, ["a", "d"])
    with pytest.raises(ColumnError, match=r"c: expected shape \(n,\), found \(2, 1\)"):
        rows_of(columns, ["c"])
