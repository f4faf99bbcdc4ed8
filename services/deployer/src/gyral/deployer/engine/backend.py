"""What a backend offers: groups of equal runtimes, made and ended as they are wanted."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

SHARED = "shared"
"""The group of every model that has none of its own; no model with its own may be called so."""


class Flavour(StrEnum):
    """What a group's runtimes can compute."""

    ONNX = "onnx"
    TORCH = "torch"


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A group as it is wanted."""

    name: str
    replicas: int
    flavour: Flavour = Flavour.ONNX
    most: int = 1
    """Of an elastic backend: up to how many it may add by itself, while `replicas` is not 0."""
    queue_s: float = 0.05
    """Of an elastic backend: the time in the queue above which it adds one."""


@dataclass(frozen=True, slots=True)
class Member:
    """One runtime of a group, as it is found."""

    name: str
    control: str
    """Address of its control routes, such as `http://127.0.0.1:8108`."""
    data: str
    """Address of its data socket, as routes name it: `unix:<path>` or `tcp:<host>:<port>`."""
    ready: bool
    """It answers on both."""
    flavour: Flavour | None = None
    """What it was made to compute; None: the backend does not say."""


class Backend(Protocol):
    """Makes groups of runtimes, somewhere; a deployer that was killed finds all of them again.

    Members keep their names and data addresses while they are wanted, also over a crash.
    """

    @property
    def elastic(self) -> bool:
        """True when it chooses by itself between `replicas` and `most`; None stays none."""

    async def ensure(self, spec: GroupSpec) -> None:
        """Have the group come to this many runtimes: idempotent, and returns at once.

        Of a group that shrinks, the members that came last end; an elastic backend chooses.
        """

    async def remove(self, group: str) -> None:
        """End all of a group; one that is not there is no error."""

    async def groups(self) -> dict[str, tuple[Member, ...]]:
        """Return what there is, however it came about; the oldest member first."""

    def entry(self, group: str) -> str:
        """Return a data address that leads to any member, once there is one.

        Routes name it while the group has none.
        """
