"""A version served as torch: only here, and only when there is one, is torch imported."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from gyral.modelling.manifest import TorchModel
from gyral.runtime.engine.errors import PredictionError, UnusableModelError

if TYPE_CHECKING:
    from gyral.modelling.networks import Network


@dataclass(frozen=True, slots=True)
class TorchNetwork:
    """What answers for a version that is torch, on one thread."""

    network: "Network"

    @classmethod
    def of(cls, model: TorchModel, weights: bytes, code: bytes, *, width: int) -> Self:
        """Build the network in this process, with all that its code may do here.

        Raises:
            UnusableModelError: torch is not there, or the files are not what they must be.
        """
        try:
            import torch  # noqa: PLC0415 - gigabytes that most runtimes never need

            from gyral.modelling.networks import NetworkError, load_network  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise UnusableModelError(
                f"model.safetensors: expected torch and safetensors; found no {error.name};"
                " install requirements/torch.txt where the model's own runtime starts"
            ) from error
        torch.set_num_threads(1)
        try:
            return cls(load_network(model, weights, code, width=width))
        except NetworkError as error:
            raise UnusableModelError(str(error)) from error

    def run(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's output for n rows; raises PredictionError."""
        from gyral.modelling.networks import NetworkError  # noqa: PLC0415 - it is there by now

        try:
            return self.network.probabilities(matrix)
        except NetworkError as error:
            raise PredictionError(str(error)) from error
