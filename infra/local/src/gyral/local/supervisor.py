"""Runs a graph of processes: each after what it needs, restarted with back-off, stopped in reverse."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from gyral.local import probes, processes
from gyral.local.compose import Condition, Service
from gyral.local.instance import Instance, write_private

_FIRST_BACKOFF_S, _LAST_BACKOFF_S, _STEADY_S = 0.2, 30.0, 10.0
_STARTING_PROBE_S = 0.1
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "JAVA_HOME", "LD_LIBRARY_PATH")


class Phase(StrEnum):
    """What a process is doing, as `gyral status` shows it."""

    WAITING = "waiting"
    STARTING = "starting"
    HEALTHY = "healthy"
    COMPLETED = "completed"
    BACKING_OFF = "backing-off"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(slots=True)
class Status:
    """One line of `gyral status`."""

    name: str
    phase: Phase = Phase.WAITING
    pid: int | None = None
    restarts: int = 0
    last_exit: int | None = None


class Unit:
    """One service of the graph and the process that is it now."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.status = Status(service.name)
        self.healthy = asyncio.Event()
        self.started = asyncio.Event()
        self.completed = asyncio.Event()
        self.process: asyncio.subprocess.Process | None = None

    def reached(self, condition: Condition) -> asyncio.Event:
        """Return what happens when the condition holds."""
        return {
            Condition.STARTED: self.started,
            Condition.HEALTHY: self.healthy,
            Condition.COMPLETED: self.completed,
        }[condition]


class Supervisor:
    """Keeps the chosen services of one instance running until told to stop."""

    def __init__(
        self, instance: Instance, services: Sequence[Service], *, changed: Callable[[], None] | None = None
    ) -> None:
        self._instance = instance
        self._units = {service.name: Unit(service) for service in services}
        self._changed = changed
        self._stop = asyncio.Event()

    @property
    def statuses(self) -> Mapping[str, Status]:
        """Where each service stands now."""
        return {name: unit.status for name, unit in self._units.items()}

    def stop(self) -> None:
        """Have `run` stop everything and return."""
        self._stop.set()

    async def run(self) -> None:
        """Start the graph and keep it up; return once it is stopped."""
        keepers = [asyncio.create_task(self._keep(unit)) for unit in self._units.values()]
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await stopping
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            await self._stop_all()

    async def _keep(self, unit: Unit) -> None:
        for need, condition in unit.service.needs.items():
            await self._units[need].reached(condition).wait()
        backoff_s = _FIRST_BACKOFF_S
        while True:
            began = time.monotonic()
            code = await self._run_once(unit)
            if code == 0 and not unit.service.restart.after(code):
                unit.completed.set()
                self._tell(unit, Phase.COMPLETED)
                return
            if not unit.service.restart.after(code):
                self._tell(unit, Phase.FAILED)
                return
            if time.monotonic() - began > _STEADY_S:
                backoff_s = _FIRST_BACKOFF_S
            self._tell(unit, Phase.BACKING_OFF)
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _LAST_BACKOFF_S)
            unit.status.restarts += 1

    async def _run_once(self, unit: Unit) -> int:
        service = unit.service
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment |= service.environment | processes.mark(self._instance.id, service.name)
        with (self._instance.logs / f"{service.name}.log").open("ab") as output:
            unit.process = await asyncio.create_subprocess_exec(
                *service.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=self._instance.compose.parent,
                start_new_session=True,
            )
        unit.status.pid = unit.process.pid
        self._tell(unit, Phase.STARTING)
        unit.started.set()
        probing = asyncio.create_task(self._probe(unit, unit.process))
        try:
            code = await unit.process.wait()
        finally:
            probing.cancel()
            unit.healthy.clear()
        # What it started itself must not outlive it: the next one would find ports and locks taken.
        processes.kill_group(unit.process.pid)
        unit.status.pid, unit.status.last_exit = None, code
        return code

    async def _probe(self, unit: Unit, process: asyncio.subprocess.Process) -> None:
        service, failures, began = unit.service, 0, time.monotonic()
        if service.health is None:
            self._tell_healthy(unit)
            return
        while True:
            healthy = unit.healthy.is_set()
            probe = service.live if healthy and service.live else service.health
            if await probes.well(probe, service.timing.timeout_s):
                failures = 0
                if not healthy:
                    self._tell_healthy(unit)
            elif healthy or time.monotonic() - began > service.timing.start_period_s:
                failures += 1
                if failures >= service.timing.retries:
                    process.kill()
                    return
            await asyncio.sleep(service.timing.interval_s if unit.healthy.is_set() else _STARTING_PROBE_S)

    def _tell_healthy(self, unit: Unit) -> None:
        unit.healthy.set()
        self._tell(unit, Phase.HEALTHY)

    def _tell(self, unit: Unit, phase: Phase) -> None:
        unit.status.phase = phase
        write_statuses(self._instance, self.statuses)
        if self._changed is not None:
            self._changed()

    async def _stop_all(self) -> None:
        """Stop what needs others before what it needs; siblings stop together."""
        left = dict(self._units)
        while left:
            needed = {need for unit in left.values() for need in unit.service.needs}
            last = [name for name in left if name not in needed]
            await asyncio.gather(*(self._stop_one(left.pop(name)) for name in last))

    async def _stop_one(self, unit: Unit) -> None:
        process = unit.process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(unit.service.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), unit.service.stop_grace_s)
            except TimeoutError:
                processes.kill_group(process.pid)
                await process.wait()
            processes.kill_group(process.pid)
        unit.status.pid = None
        self._tell(unit, Phase.STOPPED)


def write_statuses(instance: Instance, statuses: Mapping[str, Status]) -> None:
    """Write where each service stands to the instance's run folder."""
    text = json.dumps({name: asdict(status) for name, status in statuses.items()})
    write_private(instance.run / "status.json", text)


def read_statuses(instance: Instance) -> dict[str, Status]:
    """Return where each service stood when something last changed."""
    path: Path = instance.run / "status.json"
    if not path.exists():
        return {}
    rows = json.loads(path.read_text())
    return {name: Status(**{**row, "phase": Phase(row["phase"])}) for name, row in rows.items()}


def on_signals(stop: Callable[[], None]) -> None:
    """Have SIGTERM and SIGINT call this, in the running loop."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
