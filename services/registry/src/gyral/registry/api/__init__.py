"""The registry's HTTP routes."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from gyral.kit.changes import Changes
from gyral.kit.tx import Begin
from gyral.registry.store import RegistryTx


@dataclass(frozen=True, slots=True)
class Desk:
    """What every route works with."""

    begin: Begin[RegistryTx]
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    entropy: Callable[[int], bytes]
    changes: Changes
