"""What declaring a document anew changes."""

import hashlib
from dataclasses import dataclass

from gyral.contracts.specs.model import ModelBody
from gyral.contracts.specs.stream import StreamBody, StreamSpec
from gyral.modelling.labels import LabelError, LabelRule


class IncompatibleSpecError(ValueError):
    """The next generation would break those who rely on the present one."""


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
    """True when the change is one that only a new version can carry: data, label or recipe."""
    return (before.features, before.label, before.train) != (
        after.features,
        after.label,
        after.train,
    )


def check_compatible(before: StreamBody, after: StreamBody) -> None:
    """Refuse a stream's next generation when rows or readers of the present one would break.

    Raises:
        IncompatibleSpecError: a field is gone, has another type, became required or stricter,
            or key, event time or clock changed.
    """
    for role in ("key", "event_time", "clock"):
        old, new = getattr(before, role), getattr(after, role)
        if old != new:
            raise IncompatibleSpecError(f"{role}: expected {old!r} as before; found {new!r}")
    for name, old_field in before.fields.items():
        new_field = after.fields.get(name)
        if new_field is None:
            raise IncompatibleSpecError(
                f"fields.{name}: expected the field to stay; found it gone"
            )
        if new_field.type != old_field.type:
            raise IncompatibleSpecError(
                f"fields.{name}.type: expected {old_field.type} as before; "
                f"found {new_field.type}"
            )
        if old_field.nullable and not new_field.nullable:
            raise IncompatibleSpecError(
                f"fields.{name}.nullable: expected true as before; found false"
            )
    for name in after.fields.keys() - before.fields.keys():
        if not after.fields[name].nullable:
            raise IncompatibleSpecError(
                f"fields.{name}.nullable: expected true for a new field; found false"
            )


def check_references(
    model: ModelBody, *, features: StreamSpec | None, labels: StreamSpec | None
) -> None:
    """Refuse a model that reads what nobody declared.

    Raises:
        IncompatibleSpecError: a stream, a feature, the label's key or its field is not
            declared, or the label's expression is outside its grammar.
    """
    if features is None:
        raise IncompatibleSpecError(_missing_stream("features.stream", model.features.stream))
    if labels is None:
        raise IncompatibleSpecError(_missing_stream("label.stream", model.label.stream))
    for name in model.features.fields:
        if name not in features.spec.fields:
            raise IncompatibleSpecError(
                f"features.fields: expected fields of stream {features.name}; found {name!r}"
            )
    try:
        field = LabelRule.parse(model.label.positive).field
    except LabelError as error:
        raise IncompatibleSpecError(f"label.{error}") from error
    for role, name in (("key", model.label.key), ("positive", field)):
        if name not in labels.spec.fields:
            raise IncompatibleSpecError(
                f"label.{role}: expected a field of stream {labels.name}; found {name!r}"
            )


def _missing_stream(role: str, name: str) -> str:
    return f"{role}: expected a declared stream; found {name!r}: apply the stream first"
