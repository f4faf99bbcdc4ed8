"""What a version of a stream's table holds, and how it follows from the commits before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from gyral.modelling.contents import EMPTY, Content


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit did to the rows of a table."""

    content: Content = EMPTY
    schema_version: int = 0
    """Generation of the stream its rows were judged by; 0 where it brought none."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A version of a table, and what it holds."""

    version: int = -1
    content: Content = EMPTY
    schema_version: int = 0

    def after(self, changes: Sequence[Change]) -> Self:
        """Return where the table stands after these commits, one version each."""
        content = self.content
        for change in changes:
            content += change.content
        newest = max((change.schema_version for change in changes), default=0)
        return type(self)(
            self.version + len(changes), content, max(self.schema_version, newest)
        )
