"""What declaring a document anew changes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from gyral.contracts.specs.model import Features, Label, ModelBody, Train
from gyral.contracts.specs.serving import Placement
from gyral.contracts.specs.stream import FieldType, StreamSpec
from gyral.modelling.labels import LabelError, LabelRule

Types = Mapping[str, FieldType]
"""The type of each feature, by its name."""


class IncompatibleSpecError(ValueError):
    """The next generation would break those who rely on the present one.

    Args:
        field: the place in the declaration at fault.
        problem: what was expected, what was found, what to do next.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Generation:
    """What a declaration comes to."""

    number: int
    changed: bool


def next_generation(current: int | None, current_sha256: str | None, sha256: str) -> Generation:
    """Return the generation a document gets: a new number only when its content changed."""
    if current is None:
        return Generation(1, changed=True)
    if current_sha256 == sha256:
        return Generation(current, changed=False)
    return Generation(current + 1, changed=True)


def content_digest(canonical: bytes) -> str:
    """Return the SHA-256, in hex, that tells two documents apart."""
    return hashlib.sha256(canonical).hexdigest()


def retrains(before: ModelBody, after: ModelBody) -> bool:
    """True when the change is one that only a new version can carry, and one is wanted.

    Data, label and recipe; and the block, because a version's reference is measured in it.
    A declaration with `on_spec_change: false` leaves training to its other triggers.
    """
    return after.triggers.on_spec_change and _learned(before) != _learned(after)


def _learned(body: ModelBody) -> tuple[Features, Label, Train, str]:
    return body.features, body.label, body.train, body.monitor.block


def check_placement(before: ModelBody, after: ModelBody, *, torch_version: int | None) -> None:
    """Keep in runtimes of its own a model that may go back to a version with code.

    Args:
        before: the present generation.
        after: the next one.
        torch_version: the newest approved version that is served as torch; None: there is none.

    Raises:
        IncompatibleSpecError: it is to share runtimes, which would refuse that version.
    """
    moves = (before.serving.runtime, after.serving.runtime) == (Placement.OWN, Placement.SHARED)
    if moves and torch_version is not None:
        raise IncompatibleSpecError(
            "serving.runtime",
            f"expected own, since version {torch_version} was approved to be served as torch "
            f"and may answer again; found {after.serving.runtime}: keep runtime: own, or "
            "declare a new model",
        )


def check_references(
    model: ModelBody, *, features: StreamSpec | None, labels: StreamSpec | None
) -> Types:
    """Refuse a model that reads what nobody declared or may read; return its features' types.

    Raises:
        IncompatibleSpecError: a stream, a feature, the label's key or its field is not
            declared or is personal, or the label's expression is outside its grammar.
    """
    if features is None:
        raise _missing_stream("features.stream", model.features.stream)
    if labels is None:
        raise _missing_stream("label.stream", model.label.stream)
    for name in model.features.fields:
        if name not in features.spec.fields:
            raise IncompatibleSpecError(
                "features.fields",
                f"expected fields of stream {features.name}; found {name!r}: "
                "apply the stream with it first",
            )
    try:
        field = LabelRule.parse(model.label.positive).field
    except LabelError as error:
        raise IncompatibleSpecError(
            "label.positive", str(error).removeprefix("positive: ")
        ) from error
    for role, name in (("key", model.label.key), ("positive", field)):
        if name not in labels.spec.fields:
            raise IncompatibleSpecError(
                f"label.{role}",
                f"expected a field of stream {labels.name}; found {name!r}: "
                "apply the stream with it first",
            )
    _check_nothing_personal(model, features=features, labels=labels)
    return {name: features.spec.fields[name].type for name in model.features.fields}


def _check_nothing_personal(
    model: ModelBody, *, features: StreamSpec, labels: StreamSpec
) -> None:
    """Keep personal fields out of predictions and labels, where no erasure reaches them.

    What callers send with a prediction request is logged as it is, and what labels say is
    remembered by the monitor.
    """
    if features.spec.key in features.spec.personal:
        raise IncompatibleSpecError(
            "features.stream",
            f"expected a stream whose key is not personal; found {features.name}: "
            "give its rows a key of their own",
        )
    for name in model.features.fields:
        if name in features.spec.personal:
            raise IncompatibleSpecError(
                "features.fields",
                f"expected fields that are not personal; found {name!r}: leave it out",
            )
    if labels.spec.personal:
        raise IncompatibleSpecError(
            "label.stream",
            f"expected a stream without personal fields; found {labels.name}: "
            "declare one of labels alone",
        )


def check_feature_types(known: Types, declared: Types) -> None:
    """Refuse a model that gives a feature another type than it ever had.

    The table of the model's predictions has one column a feature, of one type.

    Args:
        known: the type of each feature any generation of the model had.
        declared: those of the next generation.

    Raises:
        IncompatibleSpecError: a feature had another type.
    """
    for name, found in declared.items():
        before = known.get(name, found)
        if before is not found:
            raise IncompatibleSpecError(
                f"features.fields.{name}",
                f"expected type {before} as before; found {found}: "
                "give the field another name, or declare a new model",
            )


def _missing_stream(role: str, name: str) -> IncompatibleSpecError:
    return IncompatibleSpecError(
        role, f"expected a declared stream; found {name!r}: apply the stream first"
    )
