"""Fills `${NAME}` in compose text the way Docker Compose does, so that one file serves both."""

import re
from collections.abc import Mapping

from gyral.local.errors import LocalError

_REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<kind>:?[-?])(?P<rest>[^}]*))?\})"
)


def interpolate(text: str, values: Mapping[str, str]) -> str:
    """Return the text with `${NAME}`, `${NAME:-default}` and `${NAME:?message}` filled in.

    Raises:
        LocalError: a name has neither a value nor a default.
    """

    def fill(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        name = match["plain"] or match["name"]
        kind = match["kind"] or ""
        value = values.get(name)
        if value is not None and (value or not kind.startswith(":")):
            return value
        if kind.endswith("-"):
            return match["rest"]
        reason = match["rest"] if kind.endswith("?") else f"instance.env has no {name}"
        raise LocalError(f"docker-compose.yml needs {name}: {reason}")

    return _REFERENCE.sub(fill, text)
