"""How a service says no: a status, a code for programs, a sentence for people."""

from collections.abc import Mapping
from http import HTTPStatus

MAX_ECHO = 200
"""Longest piece of a caller's own text that an answer repeats."""


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """An HTTP answer other than success.

    Args:
        status: of HTTP.
        code: for programs; never changes for the same fault.
        message: what was expected, what was found, what to do next.
        field: the place in the request at fault.
        retry_after_s: when asking again may help.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> dict[str, Mapping[str, str]]:
        """The answer's JSON."""
        inner = {"code": self.code, "message": self.message}
        if self.field is not None:
            inner["field"] = self.field
        return {"error": inner}

    @property
    def headers(self) -> dict[str, str]:
        """The answer's extra headers; who is too slow with a body is hung up on."""
        later = {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}
        slow = self.status == HTTPStatus.REQUEST_TIMEOUT
        return {**later, "connection": "close"} if slow else later


def clip(text: str) -> str:
    """Return a caller's text as an answer may repeat it: printable and short."""
    shown = "".join(char if char.isprintable() else "\ufffd" for char in text[: MAX_ECHO + 1])
    return shown if len(shown) <= MAX_ECHO else shown[: MAX_ECHO - 1] + "\u2026"


def bad_json(error: ValueError) -> Refusal:
    """Return the refusal of a body that a parser found to be no JSON."""
    return Refusal(400, "bad_json", f"expected JSON; found {clip(str(error))}")
