"""How each process stands, kept in a file that `status` and `up` read from outside."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

from pydantic import TypeAdapter

from gyral.local.instance import Instance, write_private


class Phase(StrEnum):
    """What a process is doing."""

    WAITING = "waiting"
    STARTING = "starting"
    HEALTHY = "healthy"
    NOT_READY = "not ready"
    COMPLETED = "completed"
    BACKING_OFF = "backing off"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(slots=True)
class Status:
    """One line of `gyral status`."""

    name: str
    phase: Phase = Phase.WAITING
    pid: int | None = None
    started: str = ""
    """With the id it tells this process from a later one of the same id."""
    restarts: int = 0
    failed_starts: int = 0
    """Ends in a row without having been healthy in between."""
    last_exit: int | None = None

    @property
    def is_up(self) -> bool:
        """Whether others may rely on it."""
        return self.phase in {Phase.HEALTHY, Phase.COMPLETED}


_STATUSES = TypeAdapter(dict[str, Status])


def write(instance: Instance, statuses: Mapping[str, Status]) -> None:
    """Keep where each service stands."""
    text = json.dumps({name: asdict(status) for name, status in statuses.items()})
    write_private(instance.run / "status.json", text + "\n")


def read(instance: Instance) -> dict[str, Status]:
    """Return where each service stood when something last changed."""
    try:
        return _STATUSES.validate_json((instance.run / "status.json").read_bytes())
    except FileNotFoundError:
        return {}


def forget(instance: Instance) -> None:
    """Drop what is kept of a stack that is down."""
    (instance.run / "status.json").unlink(missing_ok=True)
