"""How the inference protocol says no: a status and one sentence."""


class RefusedError(Exception):
    """An answer other than 200; overload and outages say when to ask again."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The answer's extra headers."""
        return [(b"retry-after", b"1")] if self.status in (429, 503) else []
