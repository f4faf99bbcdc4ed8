"""What a client asks, in whatever form it came, and what a model can be asked."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from gyral.gateway.api.binary import Sent
from gyral.gateway.api.tensors import BadRequestError

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
