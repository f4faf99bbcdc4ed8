"""A fitted model in the format in which it is served, and read back from those very bytes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from gyral.modelling.columns import Floats
from gyral.modelling.manifest import Manifest, OnnxModel, TorchModel
from gyral.trainer.engine.conversion import load, single_file
from gyral.trainer.engine.order import (
    CODE,
    ONNX,
    WEIGHTS,
    ChampionFiles,
    TrainingRefusedError,
)

if TYPE_CHECKING:
    from gyral.modelling.networks import Network


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


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A network as the runtime builds it."""

    network: "Network"

    def probabilities(self, matrix: NDArray[np.float32]) -> Floats:
        """Return P(positive) of each row, shape (n,)."""
        return self.network.probabilities(matrix).astype(np.float64)


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
    answers = rebuilt(model, weights, code, width=width)
    return Shipped({WEIGHTS: weights, CODE: code}, model, answers)


def champion_answers(manifest: Manifest, files: ChampionFiles) -> Answers:
    """Load the version that serves today.

    Raises:
        TrainingRefusedError: it does not load here; the message says why.
    """
    if isinstance(manifest.torch, TorchModel):
        if files.code is None:
            raise TrainingRefusedError("champion: expected its code.zip; found none")
        width = len(manifest.transform.outputs)
        weights, code = files.model.read_bytes(), files.code.read_bytes()
        return rebuilt(manifest.torch, weights, code, width=width)
    return load(files.model.read_bytes())


def rebuilt(model: TorchModel, weights: bytes, code: bytes, *, width: int) -> Rebuilt:
    """Build a network from its files, as the runtime does; raises TrainingRefusedError."""
    try:
        # Gigabytes that few want.
        from gyral.modelling.networks import NetworkError, load_network  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise TrainingRefusedError(
            "torch: expected the extra gyral-trainer[torch], as this model or its champion is"
            f" served as torch; found no {error.name}; install it with `make setup TORCH=1`"
        ) from error
    try:
        return Rebuilt(load_network(model, weights, code, width=width))
    except NetworkError as error:
        raise TrainingRefusedError(str(error)) from error
