"""A fitted model in the format in which it is served, and read back from those very bytes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from gyral.modelling.columns import Floats
from gyral.modelling.manifest import Manifest, OnnxModel, TorchModel
from gyral.trainer.engine.apart import Apart, ApartError
from gyral.trainer.engine.conversion import load, single_file
from gyral.trainer.engine.order import (
    CODE,
    ONNX,
    WEIGHTS,
    ChampionFiles,
    TrainingRefusedError,
)


class Answers(Protocol):
    """A shipped model as a runtime would hold it."""

    def probabilities(self, matrix: NDArray[np.float32]) -> Floats:
        """Return P(positive) of each row, shape (n,)."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """What a version is made of beside its manifest."""

    files: Mapping[str, bytes]
    """By name."""
    model: OnnxModel | TorchModel
    """As the manifest describes it."""
    answers: Answers


def as_onnx(graph: onnx.ModelProto) -> Shipped:
    """Ship a graph as one ONNX file.

    Raises:
        TrainingRefusedError: it is not one file, with one input and one output.
    """
    file = single_file(graph)
    session = load(file)
    described = OnnxModel(
        sha256=hashlib.sha256(file).hexdigest(),
        size_bytes=len(file),
        input=session.input,
        output=session.output,
    )
    return Shipped({ONNX: file}, described, session)


def as_torch(model: TorchModel, weights: bytes, code: bytes, *, width: int) -> Shipped:
    """Ship weights with the sources that build their network; raises TrainingRefusedError."""
    try:
        answers = rebuilt(model, weights, code, width=width)
    except ApartError as error:
        raise TrainingRefusedError(str(error)) from error
    return Shipped({WEIGHTS: weights, CODE: code}, model, answers)


def champion_answers(manifest: Manifest, files: ChampionFiles) -> Answers:
    """Load the version that serves today.

    Raises:
        ApartError: it is a network that does not load here; the message says why.
        TrainingRefusedError: there is no torch to load it with, or it is not one ONNX model.
    """
    if isinstance(manifest.torch, TorchModel):
        if files.code is None:
            raise TrainingRefusedError("champion: expected its code.zip; found none")
        width = len(manifest.transform.outputs)
        weights, code = files.model.read_bytes(), files.code.read_bytes()
        return rebuilt(manifest.torch, weights, code, width=width)
    return load(files.model.read_bytes())


def rebuilt(model: TorchModel, weights: bytes, code: bytes, *, width: int) -> Apart:
    """Build a network from its files, as the runtime does.

    Raises:
        ApartError: they make no network.
        TrainingRefusedError: torch is not there.
    """
    for name in ("torch", "safetensors"):
        if find_spec(name) is None:
            raise TrainingRefusedError(
                "torch: expected the extra gyral-trainer[torch], as this model or its champion"
                f" is served as torch; found no {name}; install it with `make setup TORCH=1`"
            )
    return Apart.of(model, weights, code, width=width)
