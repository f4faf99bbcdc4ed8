"""A whole instance of Gyral with real servers, and a replay that runs against it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from gyral.local.instance import Instance, PortChoice
from gyral.local.stack import Stack

ROOT = Path(__file__).parents[2]
FLIGHTS = ROOT / "examples" / "flights"
LOOK_S = 0.1
TIMEOUT_S = 480
YEAR_TIMEOUT_S = 1800


def prepare_flights(target: Path, *options: str) -> Path:
    """Write flights to a Parquet file; the options are those of prepare.py."""
    command: list[str | Path] = [sys.executable, FLIGHTS / "prepare.py", target, *options]
    subprocess.run(command, check=True, cwd=ROOT)
    return target


def write_specs(folder: Path, **changes: Mapping[str, object]) -> Path:
    """Write the flights' documents with parts of the model's spec replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in FLIGHTS.glob("*.yaml"):
        document = yaml.safe_load(path.read_text())
        if document["kind"] == "Model":
            for part, change in changes.items():
                document["spec"][part] = document["spec"][part] | change
        (folder / path.name).write_text(yaml.safe_dump(document))
    return folder


@dataclass(frozen=True, slots=True)
class Loop:
    """One running instance."""

    stack: Stack

    @classmethod
    def started(cls, home: Path) -> "Loop":
        """Start every process of a fresh instance on ports of its own."""
        stack = Stack(
            Instance(home, compose=ROOT / "docker-compose.yml", port_choice=PortChoice.ANY)
        )
        stack.up()
        return cls(stack)

    @property
    def environment(self) -> dict[str, str]:
        """What a command line needs to find the instance."""
        return os.environ | {
            "GYRAL_HOME": str(self.stack.instance.home),
            "OMP_NUM_THREADS": "1",
        }

    def gyral(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one command of the command line to its end."""
        command = [sys.executable, "-m", "gyral.client", *map(str, arguments)]
        return subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )

    def replay(self, specs: Path, data: Path, out: Path, *, bootstrap: str) -> "Replay":
        """Start a replay beside the test."""
        out.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "gyral.client",
            "replay",
            "--spec",
            specs,
            "--data",
            data,
        ]
        command += ["--time", "scheduled_departure", "--label", "arrival_delay_min"]
        command += ["--key", "flight_id", "--label-at", "label_known_at"]
        command += ["--bootstrap", bootstrap, "--report", out]
        with (out / "replay.log").open("wb") as log:
            process = subprocess.Popen(
                list(map(str, command)), env=self.environment, cwd=ROOT, stdout=log, stderr=log
            )
        return Replay(process, out)

    def read(self, service: str, path: str) -> Any:
        """Return what a service answers to a GET, with the operator's key."""
        instance = self.stack.instance
        port = instance.env()[f"{service.upper()}_PORT"]
        key = (instance.secrets / "admin.key").read_text().strip()
        answer = httpx.get(
            f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {key}"}
        )
        return answer.raise_for_status().json()

    def is_training(self) -> bool:
        """Tell whether a training runs; False while nobody can say."""
        with suppress(httpx.HTTPError):
            return any(run["state"] == "running" for run in self.read("trainer", "/v1/runs"))
        return False

    def is_rolling_out(self, model: str) -> bool:
        """Tell whether a rollout of a model is under way; False while nobody can say."""
        with suppress(httpx.HTTPError):
            return bool(self.read("deployer", f"/v1/models/{model}/progress")["rollout"])
        return False

    def kill(self, name: str) -> None:
        """End a service's process as a crash would: no signal handler, no clean-up."""
        status = self.stack.statuses()[name]
        assert status.pid is not None, f"{name} is not running: {status.phase}"
        os.kill(status.pid, signal.SIGKILL)

    def restarts(self, name: str) -> int:
        """Return how often the supervisor has started a service again."""
        return self.stack.statuses()[name].restarts


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay under way."""

    process: "subprocess.Popen[bytes]"
    out: Path

    def predictions(self) -> int:
        """Return how many requests for predictions were answered, by the sender's journal."""
        path = self.out / "sent.jsonl"
        return path.read_bytes().count(b'"prediction"') if path.exists() else 0

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Return once something holds; fail when the replay ends first or time runs out."""
        pause = threading.Event()
        for _ in range(int(TIMEOUT_S / LOOK_S)):
            if holds():
                return
            assert self.process.poll() is None, f"replay ended before {what}: {self.log()}"
            pause.wait(LOOK_S)
        raise AssertionError(f"expected {what} within {TIMEOUT_S} s: {self.log()}")

    def report(self, timeout_s: float = TIMEOUT_S) -> dict[str, object]:
        """Wait for the end and return report.json; the replay must have found nothing wrong."""
        status = self.process.wait(timeout_s)
        assert status == 0, f"exit status {status}: {self.log()}"
        found: dict[str, object] = json.loads((self.out / "report.json").read_text())
        return found

    def log(self) -> str:
        """Return the end of what the replay printed."""
        return (self.out / "replay.log").read_text(errors="replace")[-3000:]
