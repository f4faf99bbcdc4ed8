import json

import numpy as np
import pytest
from msgspec.structs import replace

from gyral.modelling.documents import DocumentError
from gyral.modelling.features import (
    Encoding,
    FeatureKind,
    FeatureSpec,
    fit_transform_parameters,
)
from gyral.modelling.manifest import DatasetPin, Manifest, OnnxModel

FEATURES = (
    FeatureSpec("wind", FeatureKind.NUMERIC),
    FeatureSpec("carrier", FeatureKind.CATEGORICAL, nullable=False),
)
COLUMNS = {"wind": np.array([1.0, np.nan]), "carrier": np.array(["AA", "UA"], dtype=object)}


MANIFEST = Manifest(
    model="flight-delay",
    run_id="run-1",
    trainer="sklearn.hist_gradient_boosting",
    positive="arrival_delay_min > 15",
    inputs=FEATURES,
    transform=fit_transform_parameters(COLUMNS, FEATURES, Encoding.ORDINAL),
    onnx=OnnxModel(sha256="a" * 64, size_bytes=10, input="rows", output="probabilities"),
    datasets=(DatasetPin(stream="departures", version=3),),
    cutoff_us=1_356_998_400_000_000,
    rows=50_000,
    seed=7,
    code_version="0.1.0",
    libraries={"numpy": "2.4.6", "scikit-learn": "1.9.1"},
)


def test_a_manifest_survives_json_byte_for_byte_and_encodes_the_same():
    again = Manifest.from_json(MANIFEST.to_json())
    assert again == MANIFEST
    assert again.to_json() == MANIFEST.to_json()
    assert again.encoding is Encoding.ORDINAL
    np.testing.assert_array_equal(
        again.transform.apply(COLUMNS), MANIFEST.transform.apply(COLUMNS)
    )


def test_equal_manifests_give_equal_bytes_whatever_the_order_of_keys():
    turned = {"scikit-learn": "1.9.1", "numpy": "2.4.6"}
    assert replace(MANIFEST, libraries=turned).to_json() == MANIFEST.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"inputs": FEATURES[::-1]},
            "expected carrier, wind as in inputs, found wind, carrier",
        ),
        ({"inputs": (FEATURES[0],) * 2}, "inputs: expected distinct names, found 'wind' twice"),
        (
            {"inputs": (FEATURES[0], FeatureSpec("carrier", FeatureKind.BOOLEAN))},
            "transform.features.carrier: expected boolean, found categories",
        ),
        (
            {"inputs": (FeatureSpec("wind", FeatureKind.CATEGORICAL), FEATURES[1])},
            "transform.features.wind: expected categorical, found a number",
        ),
    ],
)
def test_a_transform_that_contradicts_the_inputs_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(MANIFEST, **change)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("onnx", {"sha256": "A" * 64}, r"matching regex .*`\$.onnx.sha256`"),
        ("onnx", {"size_bytes": 0}, r"Expected `int` >= 1 - at `\$.onnx.size_bytes`"),
        ("inputs", [], r"length >= 1 - at `\$.inputs`"),
        ("rows", None, r"Expected `int`, got `null` - at `\$.rows`"),
        ("pickle", "x", "unknown field `pickle`"),
        ("transform", {"encoding": "magic"}, r"Invalid enum value 'magic'"),
    ],
)
def test_a_tampered_manifest_is_refused_by_field(field, value, message):
    document = json.loads(MANIFEST.to_json())
    held = document.get(field)
    document[field] = held | value if isinstance(held, dict) else value
    with pytest.raises(DocumentError, match=rf"^manifest.json: .*{message}"):
        Manifest.from_json(json.dumps(document).encode())
