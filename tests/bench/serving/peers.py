"""The servers that are measured beside the gateway, each in an environment of its own."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gyral.local.instance import cache
from gyral.testkit.openapi import ROOT
from gyral.testkit.processes import free_port
from tests.bench.serving.load import NotReadyError, Target, as_json, check
from tests.bench.serving.model import FEATURES, Served

_SERVERS = Path(__file__).parent / "servers"
_LOCKS = ROOT / "requirements" / "peers"
_READY_S = 120.0
_POLL_S = 0.2
_INSTALL = ("pip", "install", "--quiet", "--compile-bytecode", "--require-hashes")
_STOP_S = 15.0
Rows = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A server, and how it wants to be asked."""

    name: str
    path: str
    body: Callable[[Rows], object]
    batches: bool = True
    """False: it takes one row a request."""
    own: bool = True
    """False: it runs in our environment, as it needs nothing else."""

    def target(self, port: int, served: Served, rows: int) -> Target:
        """Return the request for the first rows of the sample."""
        return Target(
            f"http://127.0.0.1:{port}{self.path}",
            as_json(self.body(served.rows[:rows])),
            served.probabilities[:rows],
            {"content-type": "application/json"},
        )


def _one_row(rows: Rows) -> object:
    [row] = rows
    return {"x": row}


def _tensor(rows: Rows) -> object:
    cells = [cell for row in rows for cell in row]
    shape = [len(rows), len(FEATURES)]
    return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": cells}]}


CEILING = Peer("ceiling", "/predict", lambda rows: {"x": rows}, own=False)
KSERVE = Peer("kserve", "/v1/models/bench:predict", lambda rows: {"instances": rows})
OTHERS = (
    Peer("mlserver", "/v2/models/bench/infer", _tensor),
    Peer("litserve", "/predict", _one_row, batches=False),
    Peer("mlflow", "/invocations", lambda rows: {"inputs": rows}),
    Peer("bentoml", "/predict", lambda rows: {"x": rows}),
    Peer("ray", "/predict", _one_row, batches=False),
)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    peer: Peer
    port: int
    pid: int


@contextmanager
def running(peer: Peer, served: Served, folder: Path) -> Iterator[Running]:
    """Run a server until the block ends; it is entered at the first right answer.

    Raises:
        NotReadyError: it ended, or gave no answer in time.
        WrongAnswerError: it answers something else than onnxruntime does.
    """
    python = environment(peer) / "bin" / "python" if peer.own else Path(sys.executable)
    here = folder / peer.name
    here.mkdir()
    (here / "model.onnx").write_bytes(served.onnx)
    port = free_port()
    env = {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(here),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MODEL": str(here / "model.onnx"),
        "PORT": str(port),
    }
    with (folder / f"{peer.name}.log").open("ab") as log:
        process = subprocess.Popen(
            [python, _SERVERS / f"serve_{peer.name}.py"],
            cwd=here,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(process, peer.target(port, served, 1), folder / f"{peer.name}.log")
        yield Running(peer, port, process.pid)
    finally:
        _stop(process)


def environment(peer: Peer) -> Path:
    """Return the folder of a peer's installed environment, made at its first use."""
    lock = _LOCKS / f"{peer.name}.txt"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    folder = cache() / "peers" / f"{peer.name}-{digest}"
    done = folder / "installed"
    if done.exists():
        return folder
    sys.stderr.write(f"installing {peer.name} into {folder}\n")
    uv = Path(sys.executable).parent / "uv"
    python = folder / "bin" / "python"
    commands: Sequence[Sequence[str | Path]] = (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder],
        [uv, *_INSTALL, "--python", python, "-r", lock],
    )
    for command in commands:
        subprocess.run(command, check=True, stdout=sys.stderr)
    done.touch()
    return folder


def _wait(process: "subprocess.Popen[bytes]", target: Target, log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            return check(target)
        except NotReadyError as error:
            late = time.monotonic() >= deadline
            if process.poll() is not None or late:
                said = log.read_text(errors="replace")[-2000:]
                raise NotReadyError(f"{error}\n{said}") from None
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)  # and look again, at once should it end


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server and all it started: they are a session of their own."""
    for number in (15, 9):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
