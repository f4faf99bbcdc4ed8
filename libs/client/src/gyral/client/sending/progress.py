"""The bar at a terminal that says how far a send is; silent elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Show(Protocol):
    """Tells how far something is."""

    def __call__(self, what: str, rows: int = 0, share: float | None = None) -> None:
        """Show it; `share` is 0 to 1, or None where nobody knows the end."""


@contextmanager
def bar() -> Iterator[Show]:
    """Keep a bar on stderr when that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda what, rows=0, share=None: None  # noqa: ARG005 - nobody looks
        return
    from rich.console import Console  # noqa: PLC0415 - only where somebody looks
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, rows=0)

        def show(what: str, rows: int = 0, share: float | None = None) -> None:
            total = None if share is None else 1.0
            progress.update(task, description=what, total=total, completed=share, rows=rows)

        yield show
