import json

import numpy as np
import pytest
from msgspec import UNSET, to_builtins
from msgspec.structs import replace

from gyral.modelling.documents import DocumentError
from gyral.modelling.features import (
    Encoding,
    FeatureKind,
    FeatureSpec,
    fit_transform_parameters,
)
from gyral.modelling.manifest import DatasetPin, Manifest, OnnxModel, TorchModel

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


TORCH = TorchModel(
    sha256="b" * 64,
    size_bytes=10,
    code_sha256="c" * 64,
    entry="network:build",
    config={"numbers": 3, "cardinalities": (4, 2), "dropout": 0.5, "kind": "wide", "on": True},
)


def test_a_manifest_says_its_format_by_what_it_has():
    torch = replace(MANIFEST, onnx=UNSET, torch=TORCH)
    again = Manifest.from_json(torch.to_json())
    assert again == torch
    assert (again.model_file, again.code_sha256) == (TORCH, "c" * 64)
    assert (MANIFEST.model_file.sha256, MANIFEST.code_sha256) == ("a" * 64, None)


def test_a_manifest_of_onnx_says_nothing_that_older_readers_do_not_know():
    assert "torch" not in json.loads(MANIFEST.to_json())


@pytest.mark.parametrize(("formats", "found"), [((), "neither"), (("onnx", "torch"), "both")])
def test_a_manifest_has_exactly_one_format(formats, found):
    document = json.loads(MANIFEST.to_json())
    both = {"onnx": document.pop("onnx"), "torch": to_builtins(TORCH)}
    document |= {name: both[name] for name in formats}
    with pytest.raises(DocumentError, match=f"expected exactly one of them, found {found}"):
        Manifest.from_json(json.dumps(document).encode())


@pytest.mark.parametrize("entry", ["network", "../network:build", "network:__import__()", ":b"])
def test_an_entry_is_a_module_and_a_function(entry):
    document = json.loads(replace(MANIFEST, onnx=UNSET, torch=TORCH).to_json())
    document["torch"]["entry"] = entry
    with pytest.raises(DocumentError, match="entry"):
        Manifest.from_json(json.dumps(document).encode())
