"""What `up`, `down` and `status` say, whichever command line they were typed into."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from gyral.local.statuses import Phase, Status

_HEAD = ("NAME", "PHASE", "PID", "RESTARTS")
NO_STACK = "no stack here; start with `make up`"


def started(home: Path, found: Collection[Status]) -> str:
    """Return the line after `up`."""
    count = sum(status.is_up for status in found)
    return f"{_counted(count)} up; addresses are in {home / 'instance.env'}"


def stopped(home: Path, found: Collection[Status]) -> str:
    """Return the line after `down`; `found` is how it stood before."""
    count = sum(
        status.pid is not None and status.phase is not Phase.STOPPED for status in found
    )
    return f"{_counted(count)} stopped; data stay in {home}" if count else NO_STACK


def table(found: Mapping[str, Status]) -> Sequence[str]:
    """Return how each process stands, a line each, under a head."""
    if not found:
        return [NO_STACK]
    rows = [
        _HEAD,
        *(
            (each.name, str(each.phase), str(each.pid or "-"), str(each.restarts))
            for each in found.values()
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _counted(count: int) -> str:
    return f"{count} process{'' if count == 1 else 'es'}"
