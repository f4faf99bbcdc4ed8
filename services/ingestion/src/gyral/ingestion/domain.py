"""What the door can tell cheaply of a row: that it is one, whose it is and when it happened."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeGuard

from gyral.contracts.specs.stream import StreamBody

MAX_KEY_CHARS = 256
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN_CHARS = 80
_MAX_TIME_CHARS = 40
A_TIME = "an RFC 3339 time with an offset, such as 2013-01-01T05:15:00Z"
A_KEY = f"the row's key, text of 1 to {MAX_KEY_CHARS} characters without NUL"


class RefusedRowError(ValueError):
    """A row that is refused at the door, with the field at fault."""

    def __init__(self, field: str, expected: str, found: object) -> None:
        super().__init__(f"{field}: expected {expected}; found {shown(found)}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Door:
    """The rule of one stream: where its key and time are, and how far ahead a time may be."""

    key: str
    event_time: str
    latest: datetime

    def key_of(self, row: object) -> str:
        """Return the row's key, having checked all that is checked here.

        The rest is validation's: what it refuses can be looked at and replayed.

        Raises:
            RefusedRowError: it is no object, has no usable key or time, or is of the future.
        """
        if not _is_object(row):
            raise RefusedRowError("row", "a JSON object", row)
        self.check_time(row.get(self.event_time))
        key = row.get(self.key)
        if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_CHARS or "\0" in key:
            raise RefusedRowError(self.key, A_KEY, key)
        return key

    def check_time(self, value: object) -> None:
        """Pass an event time that can have come.

        Raises:
            RefusedRowError: it is none, lies before 1970, or is of the future.
        """
        try:
            if _EPOCH <= datetime.fromisoformat(value) <= self.latest:  # type: ignore[arg-type]
                return
        except (TypeError, ValueError, OverflowError):
            pass
        time_of(self.event_time, value, latest=self.latest)


def door_of(stream: StreamBody, now: datetime, *, future: timedelta) -> Door:
    """Return the rule of a stream at this moment.

    The past is open on either clock: only a time that cannot have come yet is refused.
    """
    return Door(stream.key, stream.event_time, now + future)


def time_of(field: str, value: object, *, latest: datetime) -> datetime:
    """Return an RFC 3339 time with an offset.

    Raises:
        RefusedRowError: it is not one, lies before 1970, or after `latest`.
    """
    if not isinstance(value, str) or len(value) > _MAX_TIME_CHARS:
        raise RefusedRowError(field, A_TIME, value)
    try:
        time = datetime.fromisoformat(value)
        late = time.tzinfo is not None and time > latest
        early = time.tzinfo is not None and time < _EPOCH
    except (ValueError, OverflowError) as error:
        raise RefusedRowError(field, A_TIME, value) from error
    if time.tzinfo is None:
        raise RefusedRowError(field, A_TIME, value)
    if late:
        raise RefusedRowError(field, no_later_than(latest), value)
    if early:
        raise RefusedRowError(field, "a time of 1970 or later", value)
    return time


def no_later_than(latest: datetime) -> str:
    """Return what was expected of a time that is of the future."""
    return f"a time no later than {latest.isoformat(timespec='seconds')}"


def shown(value: object) -> str:
    """Return a refused value as an answer may repeat it: short, and text whatever it was."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "an object"
        case list():
            return "an array"
        case _:
            text = repr(value).encode("ascii", "backslashreplace").decode()
            return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def _is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, dict)
