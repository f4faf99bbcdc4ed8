"""Whether a schema may follow another.

What was valid stays valid, and old readers still find what they need.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeGuard

FROZEN = ("pattern", "format")
"""Keywords that never change: no tool can tell whether a new pattern accepts all that the old
one did."""


def breaks(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Return why `new` may not follow `old`; empty when it may.

    Adding an optional field is the only growth there is.
    """
    from jsoncompat import check_compat  # noqa: PLC0415 - a tool of the checks, not of services

    found = list(_differences(old, new, ""))
    if not check_compat(_unnamed(old), _unnamed(new), "deserializer"):
        found.append("expected every value that was valid to stay valid; found one that is not")
    return found


def _unnamed(schema: Mapping[str, object]) -> str:
    """Return a schema without its own name, to which jsoncompat takes its references to be."""
    return json.dumps({key: value for key, value in schema.items() if key != "$id"})


def _differences(old: object, new: object, place: str) -> Iterator[str]:
    """Walk both schemas side by side."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for keyword in FROZEN:
            if old.get(keyword) != new.get(keyword) and isinstance(
                old.get(keyword) or new.get(keyword), str
            ):
                before, after = old.get(keyword), new.get(keyword)
                yield f"{place or '/'}: expected {keyword} {before!r}; found {after!r}"
        gone = _texts(old.get("required")) - _texts(new.get("required"))
        if gone:
            names = ", ".join(sorted(gone))
            yield f"{place or '/'}: expected {names} to stay required; found it optional"
        for key, value in old.items():
            if key in new:
                yield from _differences(value, new[key], f"{place}/{key}")
            elif place.endswith("/properties"):
                yield f"{place}/{key}: expected the field to stay; found it gone"
    elif _is_list(old) and _is_list(new) and not place.endswith("/required"):
        for number, (before, after) in enumerate(zip(old, new, strict=False)):
            yield from _differences(before, after, f"{place}/{number}")


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _texts(value: object) -> set[str]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return set()
    return {item for item in value if isinstance(item, str)}
