"""The one line at a terminal that says where a replay is and what it waits for."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Line:
    """What is shown; `show` is silent away from a terminal."""

    show: Callable[[str], None]
    day: str = ""
    scores: str = ""

    def doing(self, what: str) -> None:
        """Show what is going on now."""
        parts = (self.day, self.scores, what)
        self.show("  ".join(part for part in parts if part))


@contextmanager
def line() -> Iterator[Line]:
    """Keep a live line on stderr when that is a terminal."""
    if not sys.stderr.isatty():
        yield Line(lambda _text: None)
        return
    from rich.console import Console  # noqa: PLC0415 - only where somebody looks

    with Console(stderr=True).status("starting") as status:
        yield Line(status.update)
