"""Requests that no honest caller makes, for every route a service really has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import quote

from fastapi import FastAPI

TEXTS = (
    "\0",
    "a\0b",
    "not/a/name",
    "../../etc/passwd",
    "..",
    "%",
    "not a uuid",
    "Not-A-Name",
    "ÿ",
    "\U0001f4a3",
    "\ud800",
    "-1",
    "9" * 400,
    "a" * 10_000,
)
"""None of them is a name, an id or a number that a service could know."""
NUMBERS = ("-1", "0", str(2**31), str(2**63), str(2**64), "1e3", "NaN", "1.5", "0x1")
"""As versions: none of them exists; for counts: most of them are out of range."""
_SANE: Mapping[str, str] = {
    "integer": "1",
    "number": "0",
    "string": "nobody",
    "boolean": "true",
}


@dataclass(frozen=True, slots=True)
class HostileRequest:
    """One request with one value that is wrong."""

    method: str
    path: str
    """As it goes over the wire: quoted, with its query."""
    in_path: bool
    """The wrong value is in the path, so nothing can be there."""


def requests(api: FastAPI) -> Iterator[HostileRequest]:
    """Yield every route with each of its parameters wrong in every way, one at a time."""
    paths = cast("dict[str, dict[str, dict[str, object]]]", api.openapi()["paths"])
    for path, operations in paths.items():
        for method, operation in operations.items():
            given = cast("list[dict[str, object]]", operation.get("parameters", []))
            for wrong in given:
                for value in values_for(wrong):
                    yield HostileRequest(
                        method.upper(),
                        _written(path, given, wrong, value),
                        wrong["in"] == "path",
                    )


def values_for(parameter: Mapping[str, object]) -> tuple[str, ...]:
    """Return what is wrong for a parameter of its type."""
    return (*TEXTS, *NUMBERS) if _kind(parameter) in ("integer", "number") else TEXTS


def _written(
    path: str,
    given: list[dict[str, object]],
    wrong: Mapping[str, object],
    value: str,
) -> str:
    for parameter in given:
        if parameter["in"] == "path":
            cell = value if parameter is wrong else _SANE[_kind(parameter)]
            path = path.replace(f"{{{parameter['name']}}}", _quoted(cell))
    return path if wrong["in"] == "path" else f"{path}?{wrong['name']}={_quoted(value)}"


def _quoted(value: str) -> str:
    # A dot segment would be taken out on the way; a lone surrogate goes as the bytes it has.
    text = quote(value.encode("utf-8", "surrogatepass"), safe="")
    return text.replace(".", "%2E")


def _kind(parameter: Mapping[str, object]) -> str:
    schema = cast("dict[str, object]", parameter["schema"])
    options = cast("list[dict[str, object]]", schema.get("anyOf", [schema]))
    return str(options[0].get("type", "string"))
