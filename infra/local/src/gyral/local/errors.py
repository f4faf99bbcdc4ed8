"""What the runner cannot do by itself, told in one line that says what to do."""


class LocalError(Exception):
    """Stops the command; its message is shown as it stands, without a traceback."""
