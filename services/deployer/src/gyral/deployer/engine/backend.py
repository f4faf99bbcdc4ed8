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
    least: int = 1
    """Of what scales by itself, while the group has runtimes at all."""
    most: int = 1
    queue_s: float = 0.05
    """Time in the queue above which it adds one."""

    @property
    def model(self) -> str | None:
        """The one model that it holds versions of; None where all may be."""
        return None if self.name == SHARED else self.name


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


class Backend(Protocol):
    """Makes groups of runtimes, somewhere; a deployer that was killed finds all of them again.

    Members keep their names and addresses while they live, also over a crash.
    """

    async def ensure(self, spec: GroupSpec) -> None:
        """Have the group come to this many runtimes: idempotent, and returns at once.

        Of a group that shrinks, the members that came last end.
        """

    async def remove(self, group: str) -> None:
        """End all of a group; one that is not there is no error."""

    async def groups(self) -> dict[str, tuple[Member, ...]]:
        """Return what there is, however it came about; the oldest member first."""

    def entry(self, group: str) -> str:
        """Return a data address that leads to any member, once there is one.

        Routes name it while the group has none.
        """
