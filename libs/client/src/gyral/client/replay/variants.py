"""The models a replay compares: the loop as declared, one never retrained, one on a timer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gyral.client.documents import Spec
from gyral.client.errors import ClientError
from gyral.contracts.specs.model import ModelSpec, Schedule, Trigger
from gyral.contracts.specs.stream import StreamSpec

TIMER = "28d"


class Variant(StrEnum):
    """How a model is kept current."""

    FROZEN = "frozen"
    TIMER = "timer"
    LOOP = "loop"


@dataclass(frozen=True, slots=True)
class Declared:
    """What a folder declares: one model, the stream it reads and the stream of its labels."""

    features: StreamSpec
    labels: StreamSpec
    model: ModelSpec


def declared(specs: Sequence[Spec], where: str) -> Declared:
    """Return the one model and its streams.

    Raises:
        ClientError: there is no model or more than one, or one of its streams is missing.
    """
    models = [spec for spec in specs if isinstance(spec, ModelSpec)]
    streams = {spec.name: spec for spec in specs if isinstance(spec, StreamSpec)}
    if len(models) != 1:
        raise ClientError(f"{where}: expected one Model document; found {len(models)}")
    [model] = models
    names = (model.spec.features.stream, model.spec.label.stream)
    for name in names:
        if name not in streams:
            raise ClientError(f"{where}: expected a Stream document {name!r}; found none")
    if names[0] == names[1]:
        raise ClientError(
            f"{where}: label.stream: expected a stream of its own, as labels come later than "
            f"features; found {names[1]!r} for both"
        )
    return Declared(streams[names[0]], streams[names[1]], model)


def derive(model: ModelSpec, bootstrap_at: datetime) -> Mapping[Variant, ModelSpec]:
    """Return the declared model and its two controls, all first trained at the same moment."""
    timer = (Trigger(schedule=Schedule(every=TIMER)),)
    return {
        Variant.FROZEN: _changed(model, bootstrap_at, "-frozen", ()),
        Variant.TIMER: _changed(model, bootstrap_at, "-timer", timer),
        Variant.LOOP: _changed(model, bootstrap_at, "", model.spec.triggers.anyOf),
    }


def _changed(
    model: ModelSpec, bootstrap_at: datetime, suffix: str, triggers: tuple[Trigger, ...]
) -> ModelSpec:
    body = model.spec
    return ModelSpec.model_validate(
        {
            **model.model_dump(),
            "metadata": {**model.metadata.model_dump(), "name": f"{model.name}{suffix}"},
            "spec": {
                **body.model_dump(),
                "train": {**body.train.model_dump(), "bootstrap_at": bootstrap_at},
                "triggers": {
                    **body.triggers.model_dump(),
                    **({"on_spec_change": False} if suffix else {}),
                    "anyOf": [trigger.model_dump() for trigger in triggers],
                },
            },
        }
    )
