"""What a served version computes, free of any server: the runtime and a Bento both wrap it."""

from gyral.runtime.engine.predictor import PredictionError, Predictor, UnusableModelError

__all__ = ["PredictionError", "Predictor", "UnusableModelError"]
