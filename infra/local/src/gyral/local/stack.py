"""One instance's stack, from outside: up, down and how it stands, with the supervisor as a process of its own."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gyral.local import compose, jars, ports, processes
from gyral.local.compose import Service
from gyral.local.errors import LocalError
from gyral.local.instance import Instance, write_private
from gyral.local.processes import Identity
from gyral.local.supervisor import Phase, Status, read_statuses

UP_TIMEOUT_S = 180.0
DOWN_TIMEOUT_S = 60.0
_LOOK_S = 0.1
_LEAST_FREE_BYTES = 2 << 30
Progress = Callable[[str], None]


class Stack:
    """The processes of one instance; a second `up` of the same instance finds the first."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    def up(self, wanted: Iterable[str] = (), *, progress: Progress | None = None) -> None:
        """Return once every wanted service (all when none is named) is healthy or completed.

        Raises:
            LocalError: something is missing, a port is taken, or a service does not come up.
        """
        values = self.instance.prepare()
        graph = compose.services(self.instance.document(), values)
        names = compose.select(graph, tuple(wanted) or tuple(graph))
        with self._locked():
            if self.supervisor() is None:
                self._launch([graph[name] for name in names])
        self._await_healthy(names, progress)

    def down(self) -> None:
        """Stop everything of this instance, whoever started it and whether or not its supervisor lives."""
        if not self.instance.run.is_dir():
            return
        with self._locked():
            supervisor = self.supervisor()
            if supervisor is not None:
                supervisor.signal(signal.SIGTERM)
                _wait_for(lambda: not supervisor.alive(), DOWN_TIMEOUT_S)
                supervisor.kill_group()
            for orphan in processes.marked(self.instance.id):
                orphan.kill_group()
                orphan.signal(signal.SIGKILL)
            self._pid_file.unlink(missing_ok=True)

    def statuses(self) -> dict[str, Status]:
        """Return how each service stands; all stopped when the supervisor is gone."""
        found = read_statuses(self.instance)
        if self.supervisor() is None:
            for status in found.values():
                status.phase, status.pid = Phase.STOPPED, None
        return found

    def supervisor(self) -> Identity | None:
        """Return the supervisor's process when it runs."""
        if not self._pid_file.exists():
            return None
        pid, _, started = self._pid_file.read_text().partition(" ")
        identity = Identity(int(pid), started)
        return identity if identity.alive() else None

    @property
    def _pid_file(self) -> Path:
        return self.instance.run / "supervisor.pid"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.instance.run / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _launch(self, chosen: list[Service]) -> None:
        """Check what can be checked beforehand, then start the supervisor in a session of its own."""
        for orphan in processes.marked(self.instance.id):
            orphan.kill_group()
        components = {jar for service in chosen for jar in service.jars}
        if components:
            jars.require_java()
            jars.fetch(components)
        _require_room(self.instance.home)
        for service in chosen:
            for variable, port in service.ports.items():
                if not ports.free(port):
                    raise LocalError(
                        f"port {port} of {service.name} is taken: stop what listens there, or change "
                        f"{variable} in {self.instance.env_file}"
                    )
        command = [sys.executable, "-m", "gyral.local", "supervise", *(service.name for service in chosen)]
        with (self.instance.logs / "supervisor.log").open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self.instance.compose.parent,
                env={**os.environ, "GYRAL_HOME": str(self.instance.home)},
            )
        (self.instance.run / "status.json").unlink(missing_ok=True)
        identity = processes.identify(process.pid)
        write_private(self._pid_file, f"{identity.pid} {identity.started}")

    def _await_healthy(self, names: tuple[str, ...], progress: Progress | None) -> None:
        def settled() -> bool:
            found = self.statuses()
            done = [name for name in names if name in found and _is_up(found[name])]
            if progress is not None:
                missing = [name for name in names if name not in done]
                progress(f"{len(done)}/{len(names)} up; waiting for {', '.join(missing[:4]) or 'nothing'}")
            for name in names:
                if name in found and found[name].phase is Phase.FAILED:
                    raise LocalError(
                        f"{name} failed with exit status {found[name].last_exit}: see {self.instance.logs / name}.log"
                    )
            if self.supervisor() is None:
                raise LocalError(f"the supervisor ended: see {self.instance.logs / 'supervisor.log'}")
            return len(done) == len(names)

        if not _wait_for(settled, UP_TIMEOUT_S):
            found = self.statuses()
            late = [name for name in names if name not in found or not _is_up(found[name])]
            raise LocalError(
                f"{', '.join(late)} did not come up within {UP_TIMEOUT_S:.0f} s: see the logs in {self.instance.logs}"
            )


def _is_up(status: Status) -> bool:
    return status.phase in {Phase.HEALTHY, Phase.COMPLETED}


def _wait_for(holds: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)
    return True


def _require_room(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _LEAST_FREE_BYTES:
        raise LocalError(
            f"{folder} has {free / 2**30:.1f} GiB left and needs {_LEAST_FREE_BYTES / 2**30:.0f}: "
            "free some space there, or set GYRAL_HOME to another folder"
        )
