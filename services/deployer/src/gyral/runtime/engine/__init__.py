"""What a served version computes, free of any server: the runtime and a Bento both wrap it."""

from gyral.runtime.engine.errors import DamagedModelError, PredictionError, UnusableModelError
from gyral.runtime.engine.predictor import Predictor

__all__ = ["DamagedModelError", "PredictionError", "Predictor", "UnusableModelError"]
