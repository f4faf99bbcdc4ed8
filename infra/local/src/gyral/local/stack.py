"""One instance's stack, from outside: up, down and how it stands."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from gyral.local import compose, preflight, processes, statuses, supervisor
from gyral.local.compose import Service
from gyral.local.errors import LocalError
from gyral.local.instance import Instance
from gyral.local.processes import Identity
from gyral.local.statuses import Phase, Status

_LOOK_S = 0.05
_DOWN_TIMEOUT_S = 90.0
_HOPELESS_STARTS = 5
_SWEEP_S = 10.0
Progress = Callable[[str], None]


def _silent(_line: str) -> None:
    pass


class Stack:
    """The processes of one instance; a second `up` of the same instance joins the first."""

    def __init__(
        self, instance: Instance, *, up_timeout_s: float = 300.0, owner: Identity | None = None
    ) -> None:
        """Name the instance; with an owner, the stack goes down when that process ends."""
        self.instance = instance
        self._up_timeout_s = up_timeout_s
        self._owner = owner

    def up(self, wanted: Iterable[str] = (), *, progress: Progress = _silent) -> None:
        """Return once every wanted service (all when none is named) is healthy or completed.

        Raises:
            LocalError: something is missing, a port is taken, or a service does not come up.
        """
        names = self.start(wanted, progress=progress)
        self.await_up(names, progress=progress)

    def start(
        self, wanted: Iterable[str] = (), *, progress: Progress = _silent
    ) -> tuple[str, ...]:
        """Have the wanted services started, with their needs; return their names at once."""
        graph, names = self._plan(wanted)
        with self._locked():
            running = self.supervisor()
            new = [
                graph[name]
                for name in names
                if running is None or name not in statuses.read(self.instance)
            ]
            if running is None:
                self._sweep()
            preflight.check(self.instance, new, progress)
            if running is None:
                self._launch(names)
            elif new:
                supervisor.write_wanted(self.instance, names)
                running.signal(signal.SIGHUP)
        return names

    def prepare_foreground(self, wanted: Iterable[str] = ()) -> tuple[str, ...]:
        """Check what a supervisor in this very process needs; return the names to run."""
        graph, names = self._plan(wanted)
        with self._locked():
            if self.supervisor() is not None:
                raise LocalError(
                    f"{self.instance.home} is up already: stop it with `make down` first"
                )
            self._sweep()
            preflight.check(self.instance, [graph[name] for name in names], _silent)
        return names

    def await_up(self, names: Sequence[str], *, progress: Progress = _silent) -> None:
        """Return once the named services are healthy or completed.

        Raises:
            LocalError: one keeps ending, or they take too long.
        """
        deadline = time.monotonic() + self._up_timeout_s
        while True:
            found = self.statuses()
            late = [name for name in names if name not in found or not found[name].is_up]
            progress(
                f"{len(names) - len(late)} of {len(names)} up"
                + (f", waiting for {late[0]}" if late else "")
            )
            if not late:
                return
            self._refuse_hopeless([found[name] for name in late if name in found])
            if time.monotonic() > deadline:
                raise LocalError(
                    f"{', '.join(late)}: not up within {self._up_timeout_s:.0f} s; "
                    f"read {', '.join(str(self.instance.log(name)) for name in late)}"
                )
            time.sleep(_LOOK_S)

    def down(self) -> None:
        """Stop everything of this instance, whether or not its supervisor lives."""
        if not self.instance.run.is_dir():
            return
        with self._locked():
            running = self.supervisor()
            if running is not None:
                running.signal(signal.SIGTERM)
                deadline = time.monotonic() + _DOWN_TIMEOUT_S
                while running.alive() and time.monotonic() < deadline:
                    time.sleep(_LOOK_S)
                running.signal(signal.SIGKILL)
            self._sweep()
            statuses.forget(self.instance)

    def kill(self, name: str) -> None:
        """Kill a service as a crash would; return once that is noticed and it will start again.

        Raises:
            LocalError: it does not run.
        """
        victim = self._running(name)
        Identity(victim.pid or 0, victim.started).kill_group()
        self._await_end(name, victim)

    def restart(self, name: str) -> None:
        """Ask a service to end, and return once the one in its place is healthy.

        Raises:
            LocalError: it does not run, or does not come up again.
        """
        victim = self._running(name)
        Identity(victim.pid or 0, victim.started).signal(
            self._plan([name])[0][name].stop_signal
        )
        self._await_end(name, victim)
        self.await_up([name])

    def statuses(self) -> dict[str, Status]:
        """Return how each service stands; all stopped when the supervisor is gone."""
        found = statuses.read(self.instance)
        if self.supervisor() is None:
            for status in found.values():
                status.phase = (
                    Phase.STOPPED if not _identity(status).alive() else Phase.NOT_READY
                )
        return found

    def supervisor(self) -> Identity | None:
        """Return the supervisor's process when it runs."""
        try:
            identity = Identity.parse((self.instance.run / "supervisor.pid").read_text())
        except FileNotFoundError:
            return None
        return identity if identity.alive() else None

    def env(self) -> Mapping[str, str]:
        """Return the instance's variables."""
        return self.instance.env()

    def _running(self, name: str) -> Status:
        found = self.statuses().get(name)
        if found is None or found.pid is None:
            raise LocalError(f"{name} does not run: see `make status`")
        return found

    def _await_end(self, name: str, victim: Status) -> None:
        """Return once the supervisor knows that the process has ended."""
        deadline = time.monotonic() + self._up_timeout_s
        while (found := self.statuses()[name]).pid == victim.pid and (
            found.started == victim.started
        ):
            if time.monotonic() > deadline:
                raise LocalError(f"{name} does not end: read {self.instance.log(name)}")
            time.sleep(_LOOK_S)

    def _plan(self, wanted: Iterable[str]) -> tuple[dict[str, Service], tuple[str, ...]]:
        graph = compose.services(self.instance.document(), self.instance.prepare())
        return graph, compose.select(graph, tuple(wanted) or tuple(graph))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.instance.run / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _launch(self, names: Sequence[str]) -> None:
        """Start the supervisor in its own session; its first process ends once it is ready."""
        statuses.forget(self.instance)
        owned = ["--owner", str(self._owner)] if self._owner else []
        log = self.instance.log("supervisor")
        with log.open("ab") as output:
            answer = subprocess.run(
                [sys.executable, "-m", "gyral.local", "supervise", *owned, *names],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self.instance.compose.parent,
                env={
                    **os.environ,
                    "GYRAL_HOME": str(self.instance.home),
                    "GYRAL_COMPOSE_FILE": str(self.instance.compose),
                },
                check=False,
            )
        if answer.returncode != 0:
            raise LocalError(
                f"the supervisor did not start ({preflight.last_line(log)}): read {log}"
            )

    def _sweep(self) -> None:
        """Kill what a supervisor that died left behind; return once its ports are free."""
        left = [_identity(status) for status in statuses.read(self.instance).values()]
        for process in left:
            process.kill_group()
        orphans = processes.marked(self.instance.id)
        for orphan in orphans:
            orphan.signal(signal.SIGKILL)
        deadline = time.monotonic() + _SWEEP_S
        while any(each.alive() for each in (*left, *orphans)) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)

    def _refuse_hopeless(self, late: Sequence[Status]) -> None:
        if self.supervisor() is None:
            raise LocalError(f"the supervisor ended: read {self.instance.log('supervisor')}")
        for status in late:
            if status.phase is Phase.FAILED or status.failed_starts >= _HOPELESS_STARTS:
                log = self.instance.log(status.name)
                raise LocalError(
                    f"{status.name} does not start: exit status {status.last_exit}, "
                    f"{preflight.last_line(log)!r}; read {log}"
                )


def _identity(status: Status) -> Identity:
    return Identity(status.pid or 0, status.started) if status.pid else Identity(0, "never")
