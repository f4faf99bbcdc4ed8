"""A network built from its sources, its configuration and its weights; imports torch."""

import builtins
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gyral.modelling.archives import ArchiveError, imported, sources_of
from gyral.modelling.manifest import Setting, TorchModel, made_of

_MADE_OF = "made_of_sha256"
"""Key in the weights' metadata, and the only one: the library writes several in any order."""
_LENGTH_BYTES = 8
_ROWS = 65_536
"""Rows a call, lest many at once take all memory."""
_ERRORS = tuple(
    each
    for each in vars(builtins).values()
    if isinstance(each, type) and issubclass(each, BaseException)
)


class NetworkError(ValueError):
    """The files make no network, or it gave no answer; names nothing but what is expected."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network in evaluation mode."""

    module: nn.Module

    def probabilities(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what it answers to n rows, shape (n,).

        Raises:
            NetworkError: it raised an error, or answered something other than a number a row.
        """
        parts = [self._run(matrix[at : at + _ROWS]) for at in range(0, len(matrix), _ROWS)]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def _run(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        with _guarded("network: expected an answer"), torch.inference_mode():
            found = self.module(torch.from_numpy(matrix)).numpy()
        if not isinstance(found, np.ndarray) or found.dtype != np.float32:
            raise NetworkError("network: expected float32 numbers; found something else")
        rows = len(matrix)
        if found.shape not in ((rows,), (rows, 1)):
            raise NetworkError(f"network: expected {rows} rows; found shape {found.shape}")
        return found.reshape(rows)


def weights_of(
    module: nn.Module, code: bytes, entry: str, config: Mapping[str, Setting]
) -> bytes:
    """Return a network's weights as safetensors, bound to all that it was made from."""
    weights: bytes = safetensors.torch.save(
        {name: it.contiguous() for name, it in module.state_dict().items()},
        metadata={_MADE_OF: made_of(hashlib.sha256(code).hexdigest(), entry, config)},
    )
    return weights


def load_network(model: TorchModel, weights: bytes, code: bytes, *, width: int) -> Network:
    """Build a network and answer one row, so that the next is answered soon.

    This runs the sources with all that the process may do.

    Args:
        model: as the manifest has it.
        weights: `model.safetensors`.
        code: `code.zip`.
        width: columns of the matrix that it reads.

    Raises:
        NetworkError: a file is not the manifest's, the sources do not build a network, or the
            weights are not exactly those that it has.
    """
    _check_digests(model, weights, code)
    tensors = _tensors(weights, model)
    try:
        sources = sources_of(code)
    except ArchiveError as error:
        raise NetworkError(str(error)) from error
    module = _built(model, sources)
    with _guarded("model.safetensors: expected to be loaded by its network"):
        _check_tensors(module, tensors)
        module.load_state_dict(tensors)
        network = Network(module.eval().requires_grad_(requires_grad=False))
    network.probabilities(np.zeros((1, width), np.float32))
    return network


def kind(error: BaseException) -> str:
    """Return an error's nearest built-in type: model code words its messages as it likes."""
    # By identity: a type may call itself equal to any other.
    names = (
        known.__name__ for each in type(error).__mro__ for known in _ERRORS if each is known
    )
    return next(names, Exception.__name__)


@contextmanager
def _guarded(expected: str) -> Iterator[None]:
    """Have what model code raises be a NetworkError that does not quote it."""
    try:
        yield
    except NetworkError:
        raise
    except (Exception, SystemExit) as error:
        raise NetworkError(f"{expected}; found {kind(error)}") from error


def _check_digests(model: TorchModel, weights: bytes, code: bytes) -> None:
    for name, file, expected in (
        ("model.safetensors", weights, model.sha256),
        ("code.zip", code, model.code_sha256),
    ):
        found = hashlib.sha256(file).hexdigest()
        if found != expected:
            raise NetworkError(
                f"{name}: expected sha256 {expected}, as in manifest.json; found {found}"
            )


def _tensors(weights: bytes, model: TorchModel) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(weights)
        length = int.from_bytes(weights[:_LENGTH_BYTES], "little")
        header = json.loads(weights[_LENGTH_BYTES : _LENGTH_BYTES + length])
        found = str(header["__metadata__"][_MADE_OF])
    # The library's errors share no class, and torch adds its own.
    except Exception as error:
        raise NetworkError(
            "model.safetensors: expected tensors in safetensors, and in their metadata the"
            f" sha256 of what they are made of; found {type(error).__name__}"
        ) from error
    expected = made_of(model.code_sha256, model.entry, model.config)
    if found != expected:
        raise NetworkError(
            "model.safetensors: expected weights of the code, entry and configuration"
            f" {expected}; found those of {found[:64]!r}"
        )
    return tensors


def _built(model: TorchModel, sources: dict[str, str]) -> nn.Module:
    module, _, function = model.entry.partition(":")
    with _guarded(f"code.zip: expected {model.entry} to build a network"):
        build = getattr(imported(sources, model.code_sha256, module), function)
        built = build(dict(model.config))
        if not isinstance(built, nn.Module):
            raise NetworkError(
                f"code.zip: expected {model.entry} to return a torch.nn.Module; found another"
                " type"
            )
    return built


def _check_tensors(module: nn.Module, found: dict[str, Tensor]) -> None:
    """Refuse weights that are not exactly the network's, name by name."""
    expected = module.state_dict()
    for name in sorted(expected.keys() | found.keys()):
        wanted, given = (_form(them.get(name)) for them in (expected, found))
        if wanted != given:
            raise NetworkError(
                f"model.safetensors: {name[:80]!r}: expected {wanted}; found {given}"
            )


def _form(tensor: Tensor | None) -> str:
    return "no tensor" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
