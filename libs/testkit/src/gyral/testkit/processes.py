"""A service as the process it really is: started, asked for its health, killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

_POLL_S = 0.02


class NotUpError(AssertionError):
    """A process did not come up, or ended by itself; the end of its log is in the message."""


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class ServiceProcess:
    """One service, run by module name with an environment of its own."""

    module: str
    env: Mapping[str, str]
    log: Path
    port: int = field(default_factory=free_port)
    listener: socket.socket | None = None
    """A listening socket that each of its processes inherits."""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its number while it runs.

        Raises:
            NotUpError: it does not run.
        """
        if self._process is None or self._process.poll() is not None:
            raise NotUpError(f"{self.module} ended: {self.tail()}")
        return self._process.pid

    def start(self, *, health: str = "/health/ready", within_s: float = 60.0) -> None:
        """Start it and return once it says that it is healthy.

        Raises:
            NotUpError: it ended, or took longer.
        """
        inherited = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
        passed = () if self.listener is None else (self.listener.fileno(),)
        if self.listener is not None:
            inherited["HTTP_LISTEN_FD"] = str(self.listener.fileno())
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error::ResourceWarning", "-m", self.module],
                env={**inherited, **self.env, "HTTP_PORT": str(self.port)},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                pass_fds=passed,
            )
        self.wait_for(health, within_s=within_s)

    def wait_for(self, health: str = "/health/ready", *, within_s: float = 60.0) -> None:
        """Return once a health route answers 200."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise NotUpError(f"{self.module} ended: {self.tail()}")
            try:
                if httpx.get(f"{self.url}{health}", timeout=2).is_success:
                    return
            except httpx.TransportError:
                pass
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_POLL_S)  # and look again, at once should it end
        raise NotUpError(f"{self.module}: {health} not 200 within {within_s} s: {self.tail()}")

    def freeze(self) -> None:
        """Stop it in the middle of whatever it does, with all it holds."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on where it stopped."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to end and return its exit status."""
        return self._end(signal.SIGTERM)

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else "no log"

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            return self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise NotUpError(f"{self.module} survived {how.name}: {self.tail()}") from None
        finally:
            self._process = None
