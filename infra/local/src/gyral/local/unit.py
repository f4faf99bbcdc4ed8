"""One service's life: started, probed, started again when it ends, stopped."""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from gyral.local import probes, processes
from gyral.local.compose import Condition, Service
from gyral.local.instance import Instance
from gyral.local.statuses import Phase, Status

_STARTING_PROBE_S = 0.1
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "JAVA_HOME", "LD_LIBRARY_PATH")
"""What a process gets besides its own environment in docker-compose.yml."""
_LARGEST_LOG_BYTES = 64 << 20
_NOT_STARTED = 127


class Backoff:
    """The wait before the next start: longer after each end, short after a steady run."""

    FIRST_S, LAST_S, STEADY_S = 0.2, 30.0, 10.0

    def __init__(self) -> None:
        self._next_s = self.FIRST_S

    def after(self, up_s: float) -> float:
        """Return the wait after a process that ran this long."""
        wait_s = self.FIRST_S if up_s > self.STEADY_S else self._next_s
        self._next_s = min(2 * wait_s, self.LAST_S)
        return wait_s


class Unit:
    """A service of the graph and the process that is it now."""

    def __init__(
        self, service: Service, instance: Instance, tell: Callable[[Status], None]
    ) -> None:
        self.service = service
        self.status = Status(service.name)
        self._instance = instance
        self._tell = tell
        self._reached = {condition: asyncio.Event() for condition in Condition}
        self._process: asyncio.subprocess.Process | None = None
        self._listener: socket.socket | None = None

    async def reached(self, condition: Condition) -> None:
        """Return once the condition holds."""
        await self._reached[condition].wait()

    async def keep(self) -> None:
        """Run the service for as long as its restart policy says."""
        backoff = Backoff()
        while True:
            began = time.monotonic()
            code = await self._run_once()
            if not self.service.restart.after(code):
                if code == 0:
                    self._reached[Condition.COMPLETED].set()
                self._enter(Phase.COMPLETED if code == 0 else Phase.FAILED)
                return
            wait_s = backoff.after(time.monotonic() - began)
            self._enter(Phase.BACKING_OFF)
            await asyncio.sleep(wait_s)
            self.status.restarts += 1

    async def stop(self) -> None:
        """Ask the process to end; end it, with all that it started, when it takes too long."""
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(self.service.stop_signal)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), self.service.stop_grace_s)
            processes.kill_group(process.pid)
            await process.wait()
        if self._listener is not None:
            self._listener.close()
        self.status.pid = None
        self._enter(Phase.STOPPED)

    async def _run_once(self) -> int:
        try:
            process = self._process = await self._spawn()
        except OSError as error:
            self._note(f"{self.service.command[0]} cannot be started: {error.strerror}")
            return self._ended(_NOT_STARTED)
        self.status.pid, self.status.started = (
            process.pid,
            processes.identify(process.pid).started,
        )
        self._enter(Phase.STARTING)
        self._reached[Condition.STARTED].set()
        probing = asyncio.create_task(self._probe(process))
        try:
            code = await process.wait()
        finally:
            probing.cancel()
        # What it started must not outlive it: the next one would find ports and locks taken.
        processes.kill_group(process.pid)
        return self._ended(code)

    def _ended(self, code: int) -> int:
        if not self._reached[Condition.HEALTHY].is_set():
            self.status.failed_starts += 1
        self._reached[Condition.HEALTHY].clear()
        self.status.pid, self.status.last_exit = None, code
        return code

    async def _spawn(self) -> asyncio.subprocess.Process:
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment |= self.service.environment
        environment |= processes.mark(self._instance.id, self.service.name)
        passed = []
        if self.service.socket:
            passed = [self._listening().fileno()]
            environment |= {"HTTP_LISTEN_FD": str(passed[0])}
        log = self._instance.log(self.service.name)
        if log.exists() and log.stat().st_size > _LARGEST_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *self.service.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=self._instance.compose.parent,
                start_new_session=True,
                pass_fds=passed,
            )

    def _listening(self) -> socket.socket:
        """Return the socket that outlives the process: what comes meanwhile waits in it."""
        if self._listener is None:
            port = self.service.ports[self.service.socket]
            self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        return self._listener

    async def _probe(self, process: asyncio.subprocess.Process) -> None:
        """Tell how the process is until it ends; kill it once it was unwell for too long."""
        if self.service.health is None:
            self._became(ready=self.service.restart.after(0))
            return
        timing, failures, began = self.service.timing, 0, time.monotonic()
        while True:
            ready = await probes.well(self.service.health, timing.timeout_s)
            self._became(ready=ready)
            alive = ready or await self._alive()
            # Recovery takes its time: failures count once the process had time to start.
            patient = (
                time.monotonic() - began < timing.start_period_s
                and self.status.phase is Phase.STARTING
            )
            failures = 0 if alive or patient else failures + 1
            if failures >= timing.retries:
                self._note(
                    f"{self.service.name} did not answer {failures} times in a row: killed"
                )
                with suppress(ProcessLookupError):
                    process.kill()
                return
            await asyncio.sleep(
                _STARTING_PROBE_S if self.status.phase is Phase.STARTING else timing.interval_s
            )

    async def _alive(self) -> bool:
        # Not ready is no reason to be killed when what the process needs is away; not alive is.
        if self.service.live is None or self.status.phase is Phase.STARTING:
            return False
        return await probes.well(self.service.live, self.service.timing.timeout_s)

    def _became(self, *, ready: bool) -> None:
        if ready and self.status.phase is not Phase.HEALTHY:
            self.status.failed_starts = 0
            self._reached[Condition.HEALTHY].set()
            self._enter(Phase.HEALTHY)
        elif not ready and self.status.phase is Phase.HEALTHY:
            self._enter(Phase.NOT_READY)

    def _enter(self, phase: Phase) -> None:
        self.status.phase = phase
        self._tell(self.status)

    def _note(self, line: str) -> None:
        with suppress(OSError), self._instance.log(self.service.name).open("a") as log:
            log.write(f"gyral.local: {line}\n")
