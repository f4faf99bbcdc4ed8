"""Which version a block is judged by."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Champion:
    """One reign: the model's n-th champion and the event time it began to answer alone."""

    generation: int
    version: int
    as_of_us: int


def champion_of(champions: Iterable[Champion], end_us: int) -> Champion | None:
    """Return the latest champion that reigned before the block's end, or None before the first.

    In the block of a change only the new champion's rows count: the old one is gone by the time
    its quality would be known.
    """
    return max(
        (it for it in champions if it.as_of_us < end_us),
        key=lambda champion: champion.generation,
        default=None,
    )
