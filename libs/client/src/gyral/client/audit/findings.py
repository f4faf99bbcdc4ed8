"""What an invariant's query returned; it must return nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Self

_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One invariant: how often it is violated, with a few examples."""

    name: str
    violations: int
    examples: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, violations: Iterable[str]) -> Self:
        """Count what a query returned."""
        rest = iter(violations)
        examples = tuple(islice(rest, _EXAMPLES))
        return cls(name, len(examples) + sum(1 for _ in rest), examples)
