"""What is logged of an answered request."""

from collections.abc import Sequence

import msgspec

from gyral.contracts.inference import Role
from gyral.gateway.api.questions import Question
from gyral.gateway.api.tensors import Features, Json

_encode = msgspec.json.Encoder().encode


class Logged(msgspec.Struct, gc=False, omit_defaults=True):
    """`PredictionLogged` as JSON: the client's cells go through without being read again."""

    request_id: str
    model: str
    version: int
    role: Role
    epoch: int
    answered_at: int
    latency_us: int
    entity_keys: msgspec.Raw
    event_times: msgspec.Raw
    features: dict[str, Json]
    probabilities: Sequence[float | None]
    error: str | None = None


def entry(
    question: Question,
    features: Features,
    *,
    request_id: str,
    model: str,
    version: int,
    role: Role,
    epoch: int,
    answered_at_us: int,
    latency_us: int,
    probabilities: list[float] | None,
    error: str | None = None,
) -> bytes:
    """Return the value of one `PredictionLogged`; without probabilities, `error` says why."""
    return _encode(
        Logged(
            request_id=request_id,
            model=model,
            version=version,
            role=role,
            epoch=epoch,
            answered_at=answered_at_us,
            latency_us=latency_us,
            entity_keys=question.entity_keys,
            event_times=question.event_times,
            features=features.json,
            probabilities=[None] * question.rows if probabilities is None else probabilities,
            error=None if error is None else error[:200],
        )
    )
