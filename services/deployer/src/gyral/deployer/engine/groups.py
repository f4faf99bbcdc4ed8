"""Where runtimes are: those that settings name, and those that a backend makes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from gyral.contracts.specs.serving import Placement, Serving
from gyral.deployer.engine.backend import SHARED, Backend, Flavour, Member
from gyral.deployer.engine.runtimes import Runtime

NO_BACKEND = (
    "serving.runtime: expected a deployer that makes runtimes, since this model is to have its "
    "own; found DEPLOYER_BACKEND none: set it, or declare runtime: shared; then train anew"
)


@dataclass(frozen=True, slots=True)
class Seat:
    """One runtime: where gateways find it, and how it is told what to hold."""

    address: str
    runtime: Runtime
    ready: bool
    name: str
    flavour: Flavour | None = None


@dataclass(frozen=True, slots=True)
class Groups:
    """All runtimes there are, by group."""

    fixed: Mapping[str, Runtime] = field(default_factory=dict)
    """The shared ones that somebody else starts, by the data address that routes name."""
    backend: Backend | None = None
    client: httpx.AsyncClient | None = None
    """Asks all of them, with the service key."""

    async def start(self) -> None:
        """Nothing to wait for: runtimes are asked as they are there."""

    async def stop(self) -> None:
        """Let all connections go."""
        if self.client is not None:
            await self.client.aclose()

    def healthy(self) -> str | None:
        """Answer None: a connection is made anew whenever one is needed."""
        return None

    def group_of(self, model: str, serving: Serving) -> str:
        """Return the group that is to hold a model; the shared one where none can be made."""
        own = serving.runtime is Placement.OWN and self.backend is not None
        return model if own else SHARED

    def makes(self, group: str) -> bool:
        """True when the backend makes this group's runtimes."""
        return self.backend is not None and not (group == SHARED and self.fixed)

    @property
    def elastic(self) -> bool:
        """True when the backend adds and takes away by itself."""
        return self.backend is not None and self.backend.elastic

    async def seats(self) -> dict[str, tuple[Seat, ...]]:
        """Return every runtime that models are to be held by, by group, oldest first."""
        made = await self.made()
        if not self.fixed:
            return made
        shared = tuple(
            Seat(address, runtime, ready=True, name=f"{SHARED}-{number}")
            for number, (address, runtime) in enumerate(self.fixed.items())
        )
        return {**made, SHARED: shared}

    async def made(self) -> dict[str, tuple[Seat, ...]]:
        """Return every runtime that the backend made, wanted or not, by group."""
        if self.backend is None or self.client is None:
            return {}
        return {
            group: tuple(self._seat(each, self.client) for each in members)
            for group, members in (await self.backend.groups()).items()
        }

    @staticmethod
    def _seat(member: Member, client: httpx.AsyncClient) -> Seat:
        runtime = Runtime(client, member.control)
        return Seat(member.data, runtime, member.ready, member.name, member.flavour)

    def entry(self, group: str) -> str:
        """Return the address that leads to any runtime of a group, once there is one."""
        if self.backend is None:
            raise LookupError(f"group {group}: expected a backend that makes it; found none")
        return self.backend.entry(group)
