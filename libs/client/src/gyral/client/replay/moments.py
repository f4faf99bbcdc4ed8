"""Event time between its forms: microseconds, datetimes and RFC 3339 text, all UTC."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def moment(time_us: int) -> datetime:
    """Return microseconds since 1970 as a time."""
    return _EPOCH + time_us * _MICROSECOND


def micros(time: datetime) -> int:
    """Return a time as microseconds since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def text(time_us: int) -> str:
    """Return microseconds since 1970 as RFC 3339."""
    return moment(time_us).isoformat().replace("+00:00", "Z")
