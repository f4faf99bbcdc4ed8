"""Keeps a graph of processes up: each after what it needs, stopped in reverse."""

import asyncio
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from gyral.local import compose, processes, statuses
from gyral.local.compose import Service
from gyral.local.errors import LocalError
from gyral.local.instance import Instance, write_private
from gyral.local.processes import Identity
from gyral.local.statuses import Phase, Status
from gyral.local.unit import Unit

_WATCH_S = 1.0
_STRAYS_S = 10.0
_LOOK_S = 0.05
Observer = Callable[[Status], None]


class Supervisor:
    """Keeps services of one instance running until told to stop; more may join later."""

    def __init__(self, instance: Instance, observe: Observer) -> None:
        self._instance = instance
        self._observe = observe
        self._units: dict[str, Unit] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._stop = asyncio.Event()

    @property
    def statuses(self) -> Mapping[str, Status]:
        """Where each service stands now."""
        return {name: unit.status for name, unit in self._units.items()}

    def add(self, services: Sequence[Service]) -> None:
        """Start the services that are not there yet, each after what it needs."""
        new = [service for service in services if service.name not in self._units]
        for service in new:
            self._units[service.name] = Unit(service, self._instance, self._tell)
        for service in new:
            self._keepers[service.name] = asyncio.create_task(
                self._keep(self._units[service.name])
            )
        self._write()

    def stop(self) -> None:
        """Have `run` stop everything and return."""
        self._stop.set()

    async def run(self) -> None:
        """Return once everything was stopped, what needs others before what it needs."""
        try:
            await self._stop.wait()
        finally:
            for keeper in self._keepers.values():
                keeper.cancel()
            await asyncio.gather(*self._keepers.values(), return_exceptions=True)
            await self._stop_all()
            await self._end_strays()

    async def _keep(self, unit: Unit) -> None:
        for need, condition in unit.service.needs.items():
            await self._units[need].reached(condition)
        await unit.keep()

    async def _stop_all(self) -> None:
        left = dict(self._units)
        while left:
            needed = {need for unit in left.values() for need in unit.service.needs}
            last = [name for name in left if name not in needed]
            await asyncio.gather(*(left.pop(name).stop() for name in last))

    async def _end_strays(self) -> None:
        """End what services left to itself: runtimes outlive the deployer that made them."""
        left = [each for each in processes.marked(self._instance.id) if each.pid != os.getpid()]
        for each in left:
            each.signal(signal.SIGTERM)
        deadline = time.monotonic() + _STRAYS_S
        while any(each.alive() for each in left) and time.monotonic() < deadline:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(_LOOK_S)
        for each in left:
            each.signal(signal.SIGKILL)

    def _tell(self, status: Status) -> None:
        self._write()
        self._observe(status)

    def _write(self) -> None:
        try:
            statuses.write(self._instance, self.statuses)
        except OSError as error:
            # A full disk must not end the supervisor and leave its processes to themselves.
            _say(f"status is not written: {error.strerror}")


async def supervise(
    instance: Instance,
    names: Sequence[str],
    observe: Observer,
    ready: Callable[[], None],
    owner: Identity | None = None,
) -> None:
    """Keep the named services up until SIGTERM or SIGINT; SIGHUP has those of `wanted` join.

    With an owner, they also go down when that process ends.
    """
    supervisor = Supervisor(instance, observe)
    loop = asyncio.get_running_loop()

    def join(wanted: Sequence[str]) -> None:
        try:
            graph = compose.services(instance.document(), instance.env())
            supervisor.add([graph[name] for name in compose.select(graph, wanted)])
        except LocalError as error:
            _say(str(error))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: join(read_wanted(instance)))
    join(names)
    ready()
    watching = asyncio.create_task(_stop_when_unwanted(instance, owner, supervisor.stop))
    try:
        await supervisor.run()
    finally:
        watching.cancel()


async def _stop_when_unwanted(
    instance: Instance, owner: Identity | None, stop: Callable[[], None]
) -> None:
    """Have everything stopped once the owner ended or somebody removed the instance."""
    # Neither tells us: both have to be looked at.
    while (owner is None or owner.alive()) and instance.run.is_dir():  # noqa: ASYNC110
        await asyncio.sleep(_WATCH_S)
    stop()


@contextmanager
def sole(instance: Instance) -> Iterator[None]:
    """Be the only supervisor of the instance meanwhile, and known by id.

    Raises:
        LocalError: there is one already.
    """
    with (instance.run / "supervisor.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LocalError(
                f"{instance.home} is up already: stop it with `make down` first"
            ) from error
        identity = processes.identify(os.getpid())
        write_private(instance.run / "supervisor.pid", f"{identity}\n")
        try:
            yield
        finally:
            (instance.run / "supervisor.pid").unlink(missing_ok=True)


def write_wanted(instance: Instance, names: Sequence[str]) -> None:
    """Keep the services that are to join a running supervisor."""
    write_private(instance.run / "wanted", "\n".join(names) + "\n")


def read_wanted(instance: Instance) -> list[str]:
    """Return the services that are to join."""
    return (instance.run / "wanted").read_text().split()


def log_line(status: Status) -> None:
    """Write a status as a line of the supervisor's log."""
    ended = status.last_exit is not None and status.phase is not Phase.STARTING
    exit_code = f" exit={status.last_exit}" if ended else ""
    _say(f"{status.name} {status.phase} pid={status.pid or '-'}{exit_code}")


def _say(line: str) -> None:
    # Nobody may be there to read, and the disk may be full: neither may end the supervisor.
    with suppress(OSError):
        sys.stderr.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {line}\n")
        sys.stderr.flush()
