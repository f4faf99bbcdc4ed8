"""What goes wrong for whoever drives Gyral: each in one line that says what to do."""


class ClientError(Exception):
    """A failure a person can act on; its text is that one line."""


class ServiceError(ClientError):
    """A service said no.

    Args:
        service: its name.
        status: of HTTP.
        code: the service's word for programs.
        message: its sentence for people.
    """

    def __init__(self, service: str, status: int, code: str, message: str) -> None:
        super().__init__(f"{service} answered {status} {code}: {message}")
        self.service = service
        self.status = status
        self.code = code
        self.message = message


class UnreachableError(ClientError):
    """A service did not answer for as long as we were ready to wait."""
