"""What a client asks, in whatever form it came, and what a model can be asked."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from gyral.gateway.api.binary import Sent, elements
from gyral.gateway.api.packed import PACKED
from gyral.gateway.api.tensors import BadRequestError, Shaped, check_rows
from gyral.gateway.domain.rows import MAX_ROWS

ENTITY_KEY = "entity_key"
EVENT_TIME = "event_time"
OWN = frozenset({ENTITY_KEY, EVENT_TIME, PACKED})
"""Inputs that are the gateway's, of every model that has none of the name."""
PROBABILITY = "probability"
OUTPUTS = (PROBABILITY, "prediction_id")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output of an answer, and whether it goes as bytes."""

    name: str
    binary: bool = False


BOTH = tuple(Wanted(name) for name in OUTPUTS)


class Asked(msgspec.Struct, frozen=True, gc=False):
    """A request, before anything is known of the model."""

    client_id: str | None
    inputs: Sequence[Sent]
    outputs: tuple[Wanted, ...]
    size_bytes: int
    """Of what came."""


class Expected(msgspec.Struct, frozen=True, gc=False):
    """What a question to a model may and must bring."""

    inputs: frozenset[str]
    """What any version of the model reads."""
    order: tuple[str, ...] | None
    """The same in the order of whoever will answer; None when that is not known yet."""
    event_clock: bool
    """True when each row must say its event time."""
    latest_us: int
    """The latest event time taken, in µs UTC."""


def check_count(inputs: Sequence[Shaped], expected: Expected) -> None:
    """Raise BadRequestError when there are more inputs than any request to the model has."""
    most = len(expected.inputs) + len(OWN)
    if len(inputs) > most:
        raise BadRequestError(
            f"inputs: expected at most {most}, one for each feature and {len(OWN)} beside them;"
            f" found {len(inputs)}"
        )


def check_cells(inputs: Sequence[Shaped], expected: Expected) -> None:
    """Raise BadRequestError when shapes hold more than a request may: before cells are read."""
    check_count(inputs, expected)
    most = MAX_ROWS * (len(expected.inputs) + len(OWN))
    cells = 0
    for tensor in inputs:
        cells += elements(tensor.name, tensor.shape)
        check_rows(tensor)
    if cells > most:
        raise BadRequestError(
            f"inputs: expected shapes of at most {most} elements together; found {cells}"
        )


def outputs(named: Sequence[Wanted]) -> tuple[Wanted, ...]:
    """Return the outputs of an answer, in the order asked for.

    Raises:
        BadRequestError: one is none of the gateway's, or named twice.
    """
    for place, output in enumerate(named):
        if output.name not in OUTPUTS:
            raise BadRequestError(
                f"outputs: expected {' or '.join(OUTPUTS)}; found {output.name[:80]!r}"
            )
        if any(output.name == before.name for before in named[:place]):
            raise BadRequestError(f"outputs: expected {output.name} once; found it twice")
    return tuple(named)
