"""Where a replay is: one live line at a terminal, elsewhere a line for each month or day."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Line:
    """What is shown: `show` what is so now, `tell` what stays; one of them is silent."""

    show: Callable[[str], None]
    tell: Callable[[str], None]
    day: str = ""
    scores: str = ""

    def doing(self, what: str) -> None:
        """Show what is going on now."""
        parts = (self.day, self.scores, what)
        self.show("  ".join(part for part in parts if part))

    def over(self, period: str) -> None:
        """Tell how the models stand at the end of a period."""
        self.tell(f"{period}  {self.scores}")


@contextmanager
def line() -> Iterator[Line]:
    """Keep a live line on stderr when that is a terminal; else print lines there."""
    if not sys.stderr.isatty():
        yield Line(_silent, _print)
        return
    from rich.console import Console  # noqa: PLC0415 - only where somebody looks

    with Console(stderr=True).status("starting") as status:
        yield Line(status.update, _silent)


def _silent(_text: str) -> None:
    pass


def _print(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
