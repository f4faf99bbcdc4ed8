"""Runtimes as processes of this machine, which outlive the deployer that started them."""

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from gyral.deployer.engine.backend import Flavour, GroupSpec, Member
from gyral.deployer.engine.keeping import Keeper, Recipe
from gyral.kit.ownership import own
from gyral.kit.telemetry import get_log

_PATIENCE_S = 30.0
log = get_log()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every runtime is told."""

    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    """By the variable's name; each reaches the runtime as a file that only its owner reads."""
    by_flavour: Mapping[Flavour, Mapping[str, str]]


class Processes:
    """The `process` backend: a folder, a socket and a loopback port for each member.

    A member that ends is started anew, after a while that grows. The deployer's end ends none
    of them; its successor finds them by their locks.
    """

    elastic = False

    def __init__(
        self,
        folder: Path,
        sockets: Path,
        around: Surroundings,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Name the places.

        Args:
            folder: of this deployer alone; kept over its restarts.
            sockets: where the members' data sockets lie, within reach of the gateways.
            around: what members are told.
            changed: called whenever a member came up or ended.
        """
        self._groups = folder / "groups"
        self._secrets = folder / "secrets"
        self._lock = folder / "lock"
        self._sockets = sockets
        self._around = around
        self._changed = changed
        self._keepers: dict[tuple[str, int], Keeper] = {}
        self._removing: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        """One member after the other is renewed."""
        self._owned: int | None = None

    async def start(self) -> None:
        """Find what there is; it is kept until something else is wanted."""
        for folder in (self._groups, self._secrets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sockets.mkdir(parents=True, exist_ok=True)
        self._owned = await own(self._lock, patience_s=_PATIENCE_S)
        for name, secret in self._around.secrets.items():
            _write_private(self._secrets / name, secret)
        for path in sorted(self._groups.iterdir()):
            self._find(path.name)

    def _find(self, group: str) -> None:
        """Look after every member of a group that has a process and is not looked after."""
        for path in sorted((self._groups / group).glob("*")):
            known = not path.name.isdecimal() or (group, int(path.name)) in self._keepers
            if not known and Keeper.alive(path):
                self._keep(GroupSpec(group, 0, _flavour_of(path)), int(path.name))

    async def stop(self) -> None:
        """Look after them no more; they go on."""
        for keeper in list(self._keepers.values()):
            await keeper.let_go()
        for task in list(self._removing):
            task.cancel()
        await asyncio.gather(*self._removing, return_exceptions=True)
        self._keepers.clear()
        if self._owned is not None:
            os.close(self._owned)
            self._owned = None

    def healthy(self) -> str | None:
        """Answer None while members are looked after."""
        ended = [keeper.name for keeper in self._keepers.values() if keeper.broken]
        return f"runtime {ended[0]}: expected it looked after; found not" if ended else None

    async def ensure(self, spec: GroupSpec) -> None:
        """Have the group come to this many runtimes; those that came last end."""
        for number in range(spec.replicas):
            self._keep(spec, number)
        for group, number in list(self._keepers):
            if group == spec.name and number >= spec.replicas:
                self._end(group, number)

    async def remove(self, group: str) -> None:
        """End all of a group, and forget what its members had on disk."""
        self._find(group)  # a deployer that died may have left a start under way
        for name, number in list(self._keepers):
            if name == group:
                self._end(name, number)
        folder = self._groups / group
        if folder.is_dir() and not any(name == group for name, _ in self._keepers):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def groups(self) -> dict[str, tuple[Member, ...]]:
        """Return every member that is looked after, and groups that left only folders."""
        found: dict[str, list[Member]] = {
            path.name: [] for path in sorted(self._groups.glob("*")) if path.is_dir()
        }
        for (group, _), keeper in sorted(self._keepers.items()):
            members = found.setdefault(group, [])
            if not keeper.ending:
                members.append(keeper.member)
        return {group: tuple(members) for group, members in found.items()}

    def entry(self, group: str) -> str:
        """Return the first member's address: it is the first to come and the last to end."""
        return self._address(group, 0)

    def _address(self, group: str, number: int) -> str:
        short = hashlib.sha256(group.encode()).hexdigest()[:12]
        return f"unix:{self._sockets / f'{short}-{number}.sock'}"

    def _keep(self, spec: GroupSpec, number: int) -> None:
        key = (spec.name, number)
        keeper = self._keepers.get(key)
        if keeper is not None and not keeper.ending:
            if keeper.computes(spec.flavour):
                return
            keeper.end()  # what follows begins when it has ended
        recipe = self._recipe(spec, number)
        after = keeper.ended if keeper is not None else None
        self._keepers[key] = Keeper(recipe, self._turn, self._changed, after)
        self._keepers[key].begin()

    def _end(self, group: str, number: int) -> None:
        keeper = self._keepers[group, number]
        if keeper.ending:
            return
        keeper.end()
        task = asyncio.create_task(self._forget(group, number, keeper))
        self._removing.add(task)
        task.add_done_callback(self._removing.discard)

    async def _forget(self, group: str, number: int, keeper: Keeper) -> None:
        await keeper.ended.wait()
        if self._keepers.get((group, number)) is keeper:
            del self._keepers[group, number]
        self._changed()

    def _recipe(self, spec: GroupSpec, number: int) -> Recipe:
        folder = self._groups / spec.name / str(number)
        data = self._address(spec.name, number)
        environment = {
            **self._around.environment,
            **self._around.by_flavour.get(spec.flavour, {}),
            **{f"{name}_FILE": str(self._secrets / name) for name in self._around.secrets},
            "INSTANCE_ID": f"{spec.name}-{number}",
            "RUNTIME_LISTEN": data,
            "STATE_DIR": str(folder / "state"),
        }
        made = json.dumps([environment, dict(self._around.secrets), version("gyral-deployer")])
        return Recipe(
            name=f"{spec.name}-{number}",
            folder=folder,
            data=data,
            environment=environment,
            flavour=spec.flavour,
            digest=hashlib.sha256(made.encode()).hexdigest(),
        )


def _flavour_of(folder: Path) -> Flavour:
    with suppress(OSError, ValueError):
        return Flavour((folder / "flavour").read_text(encoding="ascii"))
    return Flavour.ONNX


def _write_private(path: Path, text: str) -> None:
    """Replace a file at once by one that only its owner can read."""
    draft = path.with_name(f".{path.name}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)
