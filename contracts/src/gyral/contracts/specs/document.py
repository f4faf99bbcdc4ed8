"""What all declared documents share."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

_UNIT_S = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
}
_DURATION = re.compile(r"^(0|[1-9][0-9]{0,8})(us|ms|s|m|h|d|w)$")


class SpecModel(BaseModel):
    """Part of a declared document.

    Closed, so that a misspelt field is refused and not ignored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Metadata(SpecModel):
    """Who a document is about and whose it is."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    owner: str | None = Field(default=None, max_length=100)
    description: str | None = Field(default=None, max_length=500)


def duration_seconds(text: str) -> float:
    """Return a duration such as `24h` in seconds.

    Raises:
        ValueError: it is no whole number with a unit of us, ms, s, m, h, d, w.
    """
    match = _DURATION.match(text)
    if match is None:
        raise ValueError(
            f"expected a number and a unit of us, ms, s, m, h, d, w, like 24h; found {text!r}"
        )
    return int(match[1]) * _UNIT_S[match[2]]


def _checked_duration(text: str) -> str:
    duration_seconds(text)
    return text


Duration = Annotated[
    str,
    StringConstraints(pattern=_DURATION.pattern),
    AfterValidator(_checked_duration),
]
"""A whole number and a unit: `90s`, `24h`, `14d`."""
