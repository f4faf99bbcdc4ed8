"""What is logged of an answered request, and how the answer itself reads."""

from collections.abc import Sequence

import msgspec

from gyral.contracts.inference import Role
from gyral.gateway.api.questions import Features, Question

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
    features: dict[str, msgspec.Raw | Sequence[float | str | None]]
    probabilities: list[float | None]
    error: str | None = None


class Output(msgspec.Struct, gc=False):
    """One tensor of an answer."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float] | list[str]


class Answer(msgspec.Struct, gc=False, omit_defaults=True):
    """The body of a 200."""

    model_name: str
    model_version: str
    outputs: list[Output]
    id: str | None = None


def answer_body(
    question: Question, model: str, version: int, request_id: str, probabilities: list[float]
) -> bytes:
    """Return the answer as the protocol has it: a probability and a prediction id a row."""
    shape = [question.rows]
    tensors = {
        "probability": lambda: Output("probability", shape, "FP64", probabilities),
        "prediction_id": lambda: Output(
            "prediction_id",
            shape,
            "BYTES",
            [f"{request_id}-{row}" for row in range(question.rows)],
        ),
    }
    outputs = [tensors[name]() for name in question.outputs]
    return _encode(Answer(model, str(version), outputs, question.client_id))


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
            probabilities=[None] * question.rows if probabilities is None else [*probabilities],
            error=None if error is None else error[:200],
        )
    )
