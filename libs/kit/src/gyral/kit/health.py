"""Whether a process is alive and whether it is ready, from the parts it is made of."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Probe = Callable[[], str | None]
"""Answers None when all is well, else one line on what is not."""


class UnstartableError(RuntimeError):
    """A part cannot begin before a person does something: its message is one line on what."""


@dataclass(slots=True)
class Health:
    """Two lists of probes: a dead part asks for a restart, an unready one for patience."""

    live: list[Probe] = field(default_factory=list)
    ready: list[Probe] = field(default_factory=list)
    started: bool = False
    stopping: bool = False

    def dead(self) -> list[str]:
        """Return what has died; empty when the process need not be restarted."""
        return _complaints(self.live) if self.started else []

    def unready(self) -> list[str]:
        """Return why no work should come here; empty when it may."""
        if self.stopping:
            return ["stopping"]
        if not self.started:
            return ["starting"]
        return [*self.dead(), *_complaints(self.ready)]


def _complaints(probes: Iterable[Probe]) -> list[str]:
    return [complaint for probe in probes if (complaint := probe()) is not None]
