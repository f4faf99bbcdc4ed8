"""What a served version computes, free of any server: the runtime and a Bento both wrap it."""

from gyral.runtime.engine.predictor import (
    DamagedModelError,
    PredictionError,
    Predictor,
    UnusableModelError,
)

__all__ = ["DamagedModelError", "PredictionError", "Predictor", "UnusableModelError"]
