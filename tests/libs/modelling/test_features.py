import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from gyral.modelling.columns import ColumnError
from gyral.modelling.features import (
    FLOAT32_LIMIT,
    STANDARD_LIMIT,
    Encoding,
    FeatureKind,
    FeatureSpec,
    FittedNumber,
    Transform,
    fit_transform_parameters,
)

FEATURES = [
    FeatureSpec("wind", FeatureKind.NUMERIC),
    FeatureSpec("carrier", FeatureKind.CATEGORICAL),
    FeatureSpec("night", FeatureKind.BOOLEAN),
]
TRAINING = {
    "wind": np.array([1.0, 3.0, np.nan, 5.0, 3.0]),
    "carrier": np.array(["UA", "AA", "UA", None, "B6"], dtype=object),
    "night": np.array([True, False, True, False, False]),
}
LIVE = {
    "wind": np.array([3.0, np.nan]),
    "carrier": np.array(["B6", "never seen"], dtype=object),
    "night": np.array([0.0, 1.0]),
}
SD = np.sqrt(2.0)  # of 1, 3, 5, 3


def fit(encoding, **options):
    return fit_transform_parameters(TRAINING, FEATURES, encoding, **options)


def test_ordinal_ranks_categories_by_frequency_and_keeps_missing():
    transform = fit(Encoding.ORDINAL)
    assert transform.outputs == ("wind", "carrier", "night")
    np.testing.assert_array_equal(transform.apply(LIVE), [[3, 2, 0], [np.nan, np.nan, 1]])
    np.testing.assert_array_equal(transform.apply(TRAINING)[:, 1], [0, 1, 0, np.nan, 2])


def test_one_hot_standard_marks_what_is_missing_and_what_is_other():
    transform = fit(Encoding.ONE_HOT_STANDARD, max_categories=2)
    assert transform.outputs == (
        *("wind", "wind missing"),
        *("carrier=UA", "carrier=AA", "carrier other"),
        "night",
    )
    night = np.sqrt(0.24)
    np.testing.assert_allclose(
        transform.apply(LIVE),
        [[0, 0, 0, 0, 1, -0.4 / night], [0, 1, 0, 0, 1, 0.6 / night]],
        rtol=1e-6,
    )
    np.testing.assert_allclose(transform.apply(TRAINING)[:, 0], np.array([-2, 0, 0, 2, 0]) / SD)


def test_embedding_puts_numbers_first_and_codes_from_one():
    transform = fit(Encoding.EMBEDDING)
    assert transform.outputs == ("wind", "wind missing", "night", "carrier")
    assert transform.cardinalities == (4,)
    np.testing.assert_array_equal(transform.apply(LIVE)[:, 3], [3, 0])
    np.testing.assert_array_equal(transform.apply(TRAINING)[:, 3], [1, 2, 1, 0, 3])


@pytest.mark.parametrize("encoding", Encoding)
def test_parameters_survive_json_and_encode_the_same(encoding):
    transform = fit(encoding)
    again = msgspec.json.decode(msgspec.json.encode(transform), type=Transform)
    assert (again, again.digest) == (transform, transform.digest)
    np.testing.assert_array_equal(again.apply(LIVE), transform.apply(LIVE))


def test_the_digest_tells_parameters_apart():
    assert fit(Encoding.ORDINAL).digest != fit(Encoding.ORDINAL, max_categories=1).digest


@pytest.mark.parametrize("encoding", [Encoding.ONE_HOT_STANDARD, Encoding.EMBEDDING])
def test_wild_and_constant_numbers_stay_finite(encoding):
    features = [FeatureSpec("x", FeatureKind.NUMERIC), FeatureSpec("y", FeatureKind.NUMERIC)]
    training = {"x": np.array([0.0, 1e-300, 1e300]), "y": np.full(3, 0.1)}
    transform = fit_transform_parameters(training, features, encoding)
    live = {"x": np.array([np.inf, -np.inf]), "y": np.array([1e308, np.nan])}
    matrix = transform.apply(live)
    assert np.isfinite(matrix).all()
    assert np.abs(matrix).max() == STANDARD_LIMIT


def test_ordinal_cuts_what_float32_cannot_hold():
    features = [FeatureSpec("x", FeatureKind.NUMERIC)]
    transform = fit_transform_parameters({"x": np.zeros(2)}, features, Encoding.ORDINAL)
    matrix = transform.apply({"x": np.array([np.inf, -1e300])})
    np.testing.assert_array_equal(matrix[:, 0], [FLOAT32_LIMIT, -FLOAT32_LIMIT])


def test_a_feature_without_any_training_value_is_imputed():
    features = [
        FeatureSpec("x", FeatureKind.NUMERIC),
        FeatureSpec("c", FeatureKind.CATEGORICAL),
    ]
    empty = {"x": np.full(2, np.nan), "c": np.array([None, None], dtype=object)}
    transform = fit_transform_parameters(empty, features, Encoding.ONE_HOT_STANDARD)
    np.testing.assert_array_equal(transform.apply(empty), [[0, 1, 1], [0, 1, 1]])


def test_an_absent_column_is_named():
    with pytest.raises(ColumnError, match="carrier: expected a column, found none"):
        fit(Encoding.ORDINAL).apply({"wind": np.zeros(1), "night": np.zeros(1)})


@pytest.mark.parametrize("encoding", Encoding)
def test_no_rows_give_an_empty_matrix(encoding):
    none = {name: column[:0] for name, column in TRAINING.items()}
    transform = fit(encoding)
    assert transform.apply(none).shape == (0, len(transform.outputs))


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_standardised_numbers_agree_with_sklearn(values):
    column = np.round(values, 3)
    features = [FeatureSpec("x", FeatureKind.NUMERIC)]
    transform = fit_transform_parameters({"x": column}, features, Encoding.EMBEDDING)
    scaler = StandardScaler().fit(column[:, None])
    [fitted] = transform.features
    assert isinstance(fitted, FittedNumber)
    assert fitted.mean == pytest.approx(scaler.mean_[0], rel=1e-9, abs=1e-9)
    assert fitted.sd == pytest.approx(scaler.scale_[0], rel=1e-9)


cells = st.one_of(st.none(), st.sampled_from(["a", "b", "c", "rare", ""]))


@given(st.lists(cells, min_size=1, max_size=40), st.sampled_from(list(Encoding)))
def test_a_row_is_encoded_alike_alone_and_in_a_batch(column, encoding):
    features = [FeatureSpec("c", FeatureKind.CATEGORICAL)]
    rows = np.array([*column, None], dtype=object)[:-1]
    transform = fit_transform_parameters({"c": rows}, features, encoding)
    alone = [transform.apply({"c": rows[at : at + 1]}) for at in range(len(rows))]
    np.testing.assert_array_equal(transform.apply({"c": rows}), np.concatenate(alone))
    if encoding is Encoding.ONE_HOT_STANDARD:
        np.testing.assert_array_equal(transform.apply({"c": rows}).sum(axis=1), 1.0)
