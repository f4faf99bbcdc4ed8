"""Why rows are refused, in words for programs and for people."""

from dataclasses import dataclass
from enum import StrEnum

_SHOWN_CHARS = 80


class Reason(StrEnum):
    """Codes of refusal; a code keeps its meaning for ever."""

    MALFORMED = "malformed"
    """No record of the contract at all."""
    UNKNOWN_STREAM = "unknown_stream"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_SCHEMA_VERSION = "unknown_schema_version"
    UNUSABLE_SCHEMA = "unusable_schema"
    """The stream's own declaration cannot be applied."""
    UNKNOWN_FIELD = "unknown_field"
    REQUIRED = "required"
    TYPE = "type"
    RANGE = "range"
    ALLOWED = "allowed"
    PATTERN = "pattern"
    MAX_LENGTH = "max_length"
    TIMESTAMP = "timestamp"
    FORBIDDEN_CHARACTER = "forbidden_character"
    KEY_MISMATCH = "key_mismatch"
    WRONG_PARTITION = "wrong_partition"
    """Another partition than its key's: it could not be told from a repetition there."""
    FUTURE = "future"
    CONFLICTING_DUPLICATE = "conflicting_duplicate"
    OVERTAKEN = "overtaken"
    """Another process had settled that the lake does not get it; it may be put back."""
    BUG = "bug"
    """Judging it failed each time, in a way nobody foresaw; it may be put back once mended."""
    NOT_PSEUDONYMISED = "not_pseudonymised"
    """Its stream has personal fields, and it did not come through the door."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One row's refusal: the first thing found wrong."""

    reason: Reason
    detail: str


def violation(reason: Reason, field: str, expected: str, found: object) -> Violation:
    """Return a refusal that names the field, what was expected and what was found."""
    return Violation(reason, printable(f"{field}: expected {expected}; found {shown(found)}"))


def overtaken(offset: int) -> Violation:
    """Return the refusal of a row of offsets that the lake is settled about."""
    return Violation(
        Reason.OVERTAKEN,
        f"offset {offset}: expected to be the first to judge it; found that another process,"
        " which went by another declaration or clock, had left it out of the lake",
    )


def failed(error: Exception) -> Violation:
    """Return the refusal of a record that cannot be judged; the error's text might quote it."""
    return Violation(
        Reason.BUG,
        printable(f"expected to be judged; found that it fails with {type(error).__name__}"),
    )


def shown(value: object) -> str:
    """Return a refused value in short."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "an object"
        case list() | tuple():
            return "an array"
        case _:
            text = repr(value)
            return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def printable(text: str, limit: int = 500) -> str:
    """Return text that any store and terminal can hold: no control characters, bounded."""
    kept = text[:limit].encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else "\ufffd" for char in kept)[:limit]
