"""How the inference protocol says no: a status and one sentence."""

from http import HTTPStatus

_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)

_MAX_MESSAGE = 1000
"""A message repeats some of what a caller sent, which may be a megabyte."""


class RefusedError(Exception):
    """An answer other than 200; overload and outages say when to ask again.

    Who is too slow with a body is hung up on.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message[:_MAX_MESSAGE]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The answer's extra headers."""
        if self.status == HTTPStatus.REQUEST_TIMEOUT:
            return [(b"connection", b"close")]
        return [(b"retry-after", b"1")] if self.status in _LATER else []
