"""How a stream may change while old and new producers and readers stand side by side.

Every row that was good stays good, and every reader keeps its columns. What widens applies at
once; what has no rule of its own here must stay as it is.
"""

from collections.abc import Callable, Mapping

from pydantic import BaseModel

from gyral.contracts.specs.document import duration_seconds
from gyral.contracts.specs.stream import StreamBody
from gyral.registry.domain.specs import IncompatibleSpecError

Problem = str | None
"""What a value should have been, or None when the change breaks nothing."""
Rules = Mapping[str, Callable[..., Problem]]
"""By a field's name: what is wrong with its old and new value."""


def check_compatible(before: StreamBody, after: StreamBody) -> None:
    """Refuse a stream's next generation when rows or readers of the present one would break.

    Raises:
        IncompatibleSpecError: the first thing that is narrower, gone, required or another.
    """
    _check("", before, after, _OF_STREAM)
    for name, field in before.fields.items():
        if name not in after.fields:
            raise _incompatible(f"fields.{name}", "the field to stay", "it gone")
        _check(f"fields.{name}.", field, after.fields[name], _OF_FIELD)
    for name in after.fields.keys() - before.fields.keys():
        if not after.fields[name].nullable:
            raise _incompatible(f"fields.{name}.nullable", "true for a new field", "false")


def _check(place: str, before: BaseModel, after: BaseModel, rules: Rules) -> None:
    for name in type(before).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        problem = None if old == new else rules.get(name, _same)(old, new)
        if problem is not None:
            raise _incompatible(f"{place}{name}", problem, _shown(new))


def _same(old: object, _new: object) -> Problem:
    return f"{_shown(old)} as before"


def _any(_old: object, _new: object) -> Problem:
    return None


def _at_most(old: float | None, new: float | None) -> Problem:
    """A lower bound may fall or go."""
    if new is None or (old is not None and new <= old):
        return None
    return "none as before" if old is None else f"at most {old:g} as before"


def _at_least(old: float | None, new: float | None) -> Problem:
    """An upper bound may rise or go."""
    if new is None or (old is not None and new >= old):
        return None
    return "none as before" if old is None else f"at least {old:g} as before"


def _no_fewer(old: tuple[str, ...] | None, new: tuple[str, ...] | None) -> Problem:
    """More values may be allowed, or all."""
    if new is None:
        return None
    if old is None:
        return "any value allowed as before"
    missing = sorted(set(old) - set(new))
    return f"{missing[0][:60]!r} allowed as before" if missing else None


def _dropped(old: str | None, new: str | None) -> Problem:
    """A pattern may go; whether another one is wider nobody can tell."""
    return None if new is None else _same(old, new)


def _may_lack(_old: bool, new: bool) -> Problem:  # noqa: FBT001 - two values of a field
    return None if new else "true as before"


def _no_shorter(old: str, new: str) -> Problem:
    longer = duration_seconds(new) >= duration_seconds(old)
    return None if longer else f"at least {old} as before"


_OF_STREAM: Rules = {
    "fields": _any,  # each is looked at by itself
    "lateness": _no_shorter,
    "dedupe": _no_shorter,
    "retention": _any,  # it is of what is kept, not of what is good
    "expectations": _any,  # they judge blocks, and refuse no row
}
_OF_FIELD: Rules = {
    "nullable": _may_lack,
    "minimum": _at_most,
    "maximum": _at_least,
    "allowed": _no_fewer,
    "pattern": _dropped,
    "max_length": _at_least,
    "description": _any,
}


def _incompatible(field: str, expected: str, found: str) -> IncompatibleSpecError:
    return IncompatibleSpecError(
        field, f"expected {expected}; found {found}: declare a new stream for such rows"
    )


def _shown(value: object) -> str:
    return "none" if value is None else str(value)[:100]
