"""A small stack of tiny real processes, for tests of the runner itself."""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from gyral.local.instance import Instance, PortChoice
from gyral.local.stack import Stack

DEADLINE_S = 60.0
PROCESS = Path(__file__).with_name("process.py")


def entry(
    name: str,
    *,
    needs: dict[str, str] | None = None,
    restart: str = "unless-stopped",
    live: bool = False,
    inherits: bool = False,
    command: list[str] | None = None,
    healthcheck: dict[str, object] | None = None,
    **environment: str,
) -> dict[str, object]:
    """Return a service of docker-compose.yml that serves HTTP and notes what happens to it."""
    port = f"{name.upper()}_PORT"
    address = f"http://127.0.0.1:${{{port}}}"
    local: dict[str, object] = {
        "command": command or ["${PYTHON}", str(PROCESS), name],
        "ports": {port: 0},
    }
    if restart == "unless-stopped":
        local["health"] = {"http": f"{address}/ready"}
    if inherits:
        local["socket"] = port
    if live:
        local["live"] = {"http": f"{address}/live"}
    return {
        "environment": {
            "HTTP_PORT": f"${{{port}}}",
            "NOTES": "${GYRAL_HOME}/notes",
            **environment,
        },
        "depends_on": {
            need: {"condition": condition} for need, condition in (needs or {}).items()
        },
        "restart": restart,
        "healthcheck": healthcheck or {},
        "stop_grace_period": "20s",
        "x-local": local,
    }


def small_stack(folder: Path, **services: dict[str, object]) -> Stack:
    """Return a stack of these entries, in an instance of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    compose = folder / "docker-compose.yml"
    compose.write_text(yaml.safe_dump({"services": services}))
    instance = Instance(folder / "home", compose=compose, port_choice=PortChoice.ANY)
    return Stack(instance, up_timeout_s=DEADLINE_S)


def notes(stack: Stack) -> list[str]:
    """Return what the processes noted, in order: `name started pid`, `name stopped pid`."""
    path = stack.instance.home / "notes"
    return path.read_text().splitlines() if path.exists() else []


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Return once it holds; fail when it does not within the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    tick = threading.Event()
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        tick.wait(0.02)


def gone(pid: int) -> bool:
    """Whether no such process runs any more; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
    except OSError:
        return True


def python(stack: Stack) -> dict[str, str]:
    """Return the environment in which the runner's command line works on this stack."""
    return {
        **os.environ,
        "GYRAL_HOME": str(stack.instance.home),
        "GYRAL_COMPOSE_FILE": str(stack.instance.compose),
        "GYRAL_PORTS": "any",
    }


RUNNER = [sys.executable, "-m", "gyral.local"]
