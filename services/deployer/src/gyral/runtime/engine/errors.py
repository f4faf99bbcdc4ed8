"""Why a version does not serve, or gave no answer."""


class UnusableModelError(ValueError):
    """The files do not make a model that can serve."""


class DamagedModelError(UnusableModelError):
    """The files are no longer those that made a model; to read them again changes nothing."""


class PredictionError(ValueError):
    """The model gave no usable answer to these rows."""
