import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from gyral.modelling.columns import ColumnError
from gyral.modelling.features import FeatureKind, FeatureSpec
from gyral.modelling.histograms import (
    CategoryBins,
    NumericBins,
    ReferenceBins,
    js_distances,
    numeric_bins_of,
    population_stability,
    reference_bins,
)

BINS = ReferenceBins((NumericBins("x", (0.0, 10.0)), CategoryBins("c", ("AA", "UA"))))
ONE = np.zeros(1, np.int64)


def columns(rows):
    return {
        "x": np.array([x for x, _ in rows], dtype=float),
        "c": np.array([*(c for _, c in rows), None], dtype=object)[:-1],
    }


def test_every_kind_of_cell_has_its_place():
    rows = [(-1, "UA"), (0, "UA"), (9.9, "AA"), (10, "B6"), (np.nan, None), (np.inf, "")]
    assert BINS.count(columns(rows)).tolist() == [1, 2, 2, 1, 1, 2, 2, 1]
    assert BINS.offsets.tolist() == [0, 4]
    assert BINS.size == 8


def test_blocks_are_counted_apart():
    rows = [(5, "AA"), (5, "UA"), (np.nan, "AA")]
    blocks, counts = BINS.count_blocks(columns(rows), np.array([9, 4, 9]))
    assert blocks.tolist() == [4, 9]
    assert counts.tolist() == [[0, 1, 0, 0, 0, 1, 0, 0], [0, 1, 0, 1, 2, 0, 0, 0]]


def test_edges_are_the_deciles_of_what_is_present():
    column = np.array([*range(101), np.nan], dtype=float)
    assert numeric_bins_of("x", column).edges == tuple(float(n) for n in range(10, 100, 10))


def test_a_value_where_quantiles_meet_has_a_bin_of_its_own():
    rain = np.array([0.0] * 95 + [1.0] * 5)
    bins = numeric_bins_of("rain", rain)
    counts = np.bincount(bins.cells(rain), minlength=bins.size)
    assert counts.tolist() == [0, 95, 5, 0]


def test_a_column_without_values_has_one_bin_beside_missing():
    bins = numeric_bins_of("x", np.full(3, np.nan))
    assert bins.cells(np.array([1.0, np.nan])).tolist() == [0, 1]


def test_rare_categories_count_as_unseen():
    column = np.array(["a", "b", "b", "c", "c", None], dtype=object)
    bins = reference_bins(
        {"c": column}, [FeatureSpec("c", FeatureKind.CATEGORICAL)], categories=2
    )
    assert bins.features == (CategoryBins("c", ("b", "c")),)
    assert bins.count({"c": column}).tolist() == [2, 2, 1, 1]


def test_distances_worked_by_hand():
    apart = js_distances(np.array([4, 0]), np.array([0, 9]), ONE)
    np.testing.assert_allclose(apart, np.sqrt(np.log(2)))
    # Shares .5, .5 against .25, .75: (.25 - .5) ln(.25 / .5) + (.75 - .5) ln(.75 / .5).
    moved = population_stability(np.array([10, 10]), np.array([5, 15]), ONE)
    np.testing.assert_allclose(moved, 0.25 * np.log(2) + 0.25 * np.log(1.5))


def test_an_empty_cell_is_floored_in_the_stability_index():
    index = population_stability(np.array([1, 0]), np.array([1, 1]), ONE)
    np.testing.assert_allclose(index, 0.5 * np.log(2) + (0.5 - 1e-4) * np.log(0.5 / 1e-4))


def test_an_empty_histogram_has_no_distance():
    with pytest.raises(ValueError, match="expected at least one row per feature, found none"):
        js_distances(np.array([1, 1]), np.array([0, 0]), ONE)


def test_what_cannot_be_counted_is_named():
    with pytest.raises(ColumnError, match="c: expected a column, found none"):
        BINS.count({"x": np.zeros(2)})
    with pytest.raises(ColumnError, match="block: expected 2 rows as in x, found 1"):
        BINS.count_blocks(columns([(1, "a"), (2, "b")]), np.zeros(1, np.int64))


counts = st.lists(st.integers(0, 50), min_size=6, max_size=6).filter(
    lambda it: sum(it[:4]) and sum(it[4:])
)


@given(counts, counts)
def test_distances_agree_with_scipy_feature_by_feature(reference, live):
    offsets = np.array([0, 4])
    found = js_distances(np.array(reference), np.array(live), offsets)
    expected = [
        jensenshannon(reference[cut], live[cut]) for cut in (slice(0, 4), slice(4, None))
    ]
    # scipy takes the root of rounding noise where the two are equal.
    np.testing.assert_allclose(found**2, np.square(np.nan_to_num(expected)), atol=1e-12)


@given(counts, counts)
def test_distances_are_symmetric_bounded_and_zero_for_equals(reference, live):
    one, other, offsets = np.array(reference), np.array(live), np.array([0, 4])
    found = js_distances(one, other, offsets)
    np.testing.assert_allclose(found, js_distances(other, one, offsets), atol=1e-9)
    assert (found <= np.sqrt(np.log(2)) + 1e-9).all()
    assert (js_distances(one, 3 * one, offsets) < 1e-7).all()
    assert (population_stability(one, other, offsets) >= 0).all()


rows = st.lists(
    st.tuples(
        st.one_of(st.just(np.nan), st.floats(-20, 20)),
        st.sampled_from(["AA", "UA", "B6", None]),
    ),
    min_size=1,
    max_size=40,
)


@given(rows, rows)
def test_merged_counts_are_those_of_merged_rows(first, second):
    merged = BINS.count(columns(first)) + BINS.count(columns(second))
    np.testing.assert_array_equal(merged, BINS.count(columns(first + second)))
    ids = np.arange(len(first)) % 3
    np.testing.assert_array_equal(
        BINS.count_blocks(columns(first), ids)[1].sum(axis=0), BINS.count(columns(first))
    )
    assert BINS.count(columns(first))[:4].sum() == len(first)
