"""What the gateway's journal holds: predictions and the markers behind them."""

from enum import IntEnum


class Kind(IntEnum):
    """What an entry's payload is."""

    PREDICTION_LIVE = 1
    PREDICTION_SHADOW = 2
    MARKER = 3
