"""What weights must be to become a network, and that nothing else does."""

import json
import pickle
import struct

import msgspec
import numpy as np
import pytest

from gyral.modelling.manifest import Manifest, TorchModel
from gyral.testkit.torch_models import (
    CONFIG,
    ENTRY,
    ROWS,
    SOURCE,
    TENSORS,
    probability,
    tensors_file,
    torch_files,
)

pytestmark = pytest.mark.torch
networks = pytest.importorskip("gyral.modelling.networks", exc_type=ModuleNotFoundError)
MATRIX = np.array([[row["x"], row["y"]] for row in ROWS], np.float32)


def loaded(files):
    model = Manifest.from_json(files.manifest).torch
    return networks.load_network(model, files.weights, files.code, width=2)


def refusal(files):
    with pytest.raises(networks.NetworkError) as refused:
        loaded(files)
    return str(refused.value)


def test_a_network_answers_what_was_worked_out_by_hand():
    found = loaded(torch_files()).probabilities(MATRIX)
    assert found.tolist() == pytest.approx([probability(row) for row in ROWS], abs=1e-6)
    assert found[0] == pytest.approx(0.549834, abs=1e-6)  # the sigmoid of 0.2


def test_weights_that_are_written_are_read_again():
    files = torch_files()
    made_from = (files.code, ENTRY, CONFIG)
    again = networks.weights_of(loaded(files).module, *made_from)
    assert loaded(torch_files(weights=again)).probabilities(MATRIX).shape == (2,)
    assert networks.weights_of(loaded(files).module, *made_from) == again


@pytest.mark.parametrize(
    "other", [{"config": {"width": 2, "depth": 1}}, {"entry": "network:other"}]
)
def test_weights_serve_under_no_other_entry_or_configuration(other):
    """So one digest names a version: of its bytes, the only ones that the rest fits."""
    files = torch_files(SOURCE + "\nother = build\n")
    described = Manifest.from_json(files.manifest).torch
    assert isinstance(described, TorchModel)
    model = msgspec.structs.replace(described, **other)
    with pytest.raises(
        networks.NetworkError, match="weights of the code, entry and configuration"
    ):
        networks.load_network(model, files.weights, files.code, width=2)


def with_tensors(**changed):
    tensors = {name.replace("_", "."): it for name, it in changed.items()}
    kept = {name: it for name, it in (TENSORS | tensors).items() if it is not None}
    return tensors_file(kept, torch_files().code)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (with_tensors(extra=TENSORS["layer.bias"]), "'extra': expected no tensor; found torch"),
        (with_tensors(layer_bias=None), "'layer.bias': expected torch.float32 [1]; found no"),
        (with_tensors(layer_weight=np.zeros((1, 3), np.float32)), "found torch.float32 [1, 3]"),
        (with_tensors(layer_bias=np.zeros(1, np.float64)), "found torch.float64 [1]"),
        (tensors_file(TENSORS, b"", made_of_sha256="0" * 64), "expected weights of the code"),
        (pickle.dumps(TENSORS), "expected tensors in safetensors"),
        (b"PK\x03\x04" + bytes(40), "expected tensors in safetensors"),
        (with_tensors()[:-1], "expected tensors in safetensors"),
        (with_tensors() + b"more", "expected tensors in safetensors"),
        (struct.pack("<Q", 1 << 62) + b"{}", "expected tensors in safetensors"),
    ],
)
def test_weights_that_are_not_exactly_the_networks_are_refused(weights, said):
    assert said in refusal(torch_files(weights=weights))


@pytest.mark.parametrize(
    "claimed",
    [
        {"shape": [1 << 40, 1 << 40], "data_offsets": [0, 8]},
        {"shape": [2], "data_offsets": [0, 1 << 50]},
        {"shape": [2], "data_offsets": [8, 0]},
        {"shape": [1], "data_offsets": [0, 8]},
        {"shape": [2], "data_offsets": [0, 8], "dtype": "P64"},
    ],
)
def test_a_header_that_lies_is_refused(claimed):
    header = {"layer.bias": {"dtype": "F32", **claimed}}
    text = json.dumps(header).encode()
    weights = struct.pack("<Q", len(text)) + text + bytes(8)
    assert "expected tensors in safetensors" in refusal(torch_files(weights=weights))


def test_files_of_another_digest_are_refused_before_they_are_read():
    other = torch_files(SOURCE + "\nX = 1\n")
    model = Manifest.from_json(other.manifest).torch
    for weights, code in (
        (other.weights, torch_files().code),
        (torch_files().weights, other.code),
    ):
        with pytest.raises(
            networks.NetworkError, match=r"expected sha256 .*, as in manifest\.json"
        ):
            networks.load_network(model, weights, code, width=2)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_library\n", "found ModuleNotFoundError"),
        ("def build(config)\n", "found SyntaxError"),
        ("build = None\n", "found TypeError"),
        ("def build(config):\n    return 1\n", "found another type"),
        ("def build(config):\n    raise KeyError('/secret/path')\n", "found KeyError"),
        ("import sys\nsys.exit(0)\n", "found SystemExit"),
        (
            "class Told(ValueError): pass\nTold.__name__ = 'secret'\nraise Told('secret')\n",
            "found ValueError",
        ),
    ],
)
def test_sources_that_build_no_network_are_refused_and_not_quoted(source, said):
    told = refusal(torch_files(source))
    assert said in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("raise OSError('/secret')", "found OSError"),
        ("return 'secret'", "found AttributeError"),
        ("return matrix.to(torch.float64)", "expected float32"),
        ("return self.layer(matrix).squeeze()", "expected 1 rows; found shape ()"),
        ("return torch.ones(7)", "expected 1 rows; found shape (7,)"),
        ("return torch.ones(len(matrix), 2)", "expected 1 rows; found shape (1, 2)"),
    ],
)
def test_a_network_that_gives_no_numbers_is_refused_when_it_is_warmed_up(answer, said):
    source = SOURCE.replace("return torch.sigmoid(self.layer(matrix)).squeeze(1)", answer)
    told = refusal(torch_files(source))
    assert said in told
    assert "secret" not in told


@pytest.mark.parametrize("method", ["state_dict", "load_state_dict", "eval", "requires_grad_"])
def test_a_network_whose_own_methods_fail_is_refused_and_not_quoted(method):
    fails = (
        f"    def {method}(self, *given, **named): raise OSError('/secret')\n\n    def forward"
    )
    told = refusal(torch_files(SOURCE.replace("    def forward", fails)))
    assert "found OSError" in told
    assert "secret" not in told


def test_an_error_that_calls_itself_equal_to_others_is_told_by_its_kind():
    likes = """
class Alike(type):
    def __eq__(self, other): return True
    __hash__ = type.__hash__

class Told(ValueError, metaclass=Alike): pass

Told.__name__ = "secret"
raise Told
"""
    assert "found ValueError" in refusal(torch_files(likes))
