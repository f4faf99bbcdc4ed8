"""`make bench-density`: many models in one runtime, all answering, within a memory budget."""

import hashlib
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gyral.contracts.names import BlobRef
from gyral.kit.frames import Batch, FrameReader, Kind, Rows, batch_payload, packed
from gyral.runtime.domain import Files
from gyral.runtime.store import Cache
from gyral.testkit.backends import start_backends
from gyral.testkit.processes import ServiceProcess
from gyral.testkit.usage import memory_bytes
from tests.bench.report import machine, publish, today
from tests.bench.serving import cold
from tests.bench.serving.model import FEATURES, Served, boosted_trees, served
from tests.bench.serving.report import Density, DensityReport

MODELS = 500
_ROOMY_BYTES, _TIGHT_BYTES = 1 << 30, 64 << 20
_HOT_ASKS = 5000
_TOLERANCE = 1e-5
_READY_S = 120.0


def variants(file: bytes, count: int) -> Iterator[Served]:
    """Yield models whose scores differ, so that an answer tells which of them gave it."""
    for number in range(count):
        model = onnx.load_model_from_string(file)
        [trees] = [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]
        [base] = [each for each in trees.attribute if each.name == "base_values"]
        base.floats[0] += number / count
        yield served(model.SerializeToString())


@dataclass(frozen=True, slots=True)
class Many:
    """Models in a runtime's cache, as it would have left them there itself."""

    slots: Sequence[str]
    digests: Sequence[str]
    probabilities: Sequence[float]
    """What each answers to its first sample row."""
    row: Sequence[float]

    def batch(self, at: int) -> bytes:
        """Return the first sample row as a frame's payload that asks one model."""
        cells: list[bytes | list[str | bool | None]] = [
            np.array([cell], "<f8").tobytes() for cell in self.row
        ]
        return batch_payload(
            Batch(self.slots[at], self.digests[at], FEATURES, [Rows(1, cells)])
        )


def cached(folder: Path, models: Iterable[Served]) -> Many:
    """Put models into the cache of a runtime that has not started yet."""
    cache = Cache(folder)
    slots: dict[str, Files] = {}
    answers = []
    row: Sequence[float] = ()
    for number, one in enumerate(models):
        files = one.files()
        refs = []
        for data in (files.onnx, files.manifest, files.golden):
            digest = hashlib.sha256(data).hexdigest()
            ref = BlobRef(key=digest, sha256=digest, size_bytes=len(data))
            cache.path(ref).write_bytes(data)
            refs.append(ref)
        slots[f"m{number}@1"] = Files(*refs)
        answers.append(one.probabilities[0])
        row = one.rows[0]
    cache.keep(slots)
    return Many(list(slots), [each.model.sha256 for each in slots.values()], answers, row)


class Asking:
    """A gateway's end of the runtime's socket: one batch after the other."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_READY_S)
        self._socket.connect(str(path))
        self._reader = FrameReader()

    def probability(self, payload: bytes) -> float:
        """Return what the model answers to the one row."""
        self._socket.sendall(packed(1, Kind.BATCH, payload))
        while data := self._socket.recv(1 << 16):
            for frame in self._reader.feed(data):
                if frame.kind is not Kind.PROBABILITIES:
                    raise RuntimeError(f"expected an answer; found {frame.payload!r}")
                return float(np.frombuffer(frame.payload, "<f8")[0])
        raise RuntimeError("expected an answer; the runtime hung up")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


@contextmanager
def runtime(folder: Path, budget_bytes: int) -> Iterator[tuple[ServiceProcess, float]]:
    """Run a runtime over a cache; yield it with the seconds it took to be ready."""
    folder.mkdir(exist_ok=True)
    process = ServiceProcess(
        "gyral.runtime",
        {
            "STATE_DIR": str(folder),
            "RUNTIME_LISTEN": f"unix:{folder}/r.sock",
            "SERVICE_KEY": "bench",
            "S3_ENDPOINT": "http://127.0.0.1:1",
            "S3_ACCESS_KEY": "none",
            "S3_SECRET_KEY": "none",
            "RUNTIME_MEMORY_BYTES": str(budget_bytes),
        },
        folder / "log",
    )
    began = time.perf_counter()
    process.start()
    try:
        yield process, time.perf_counter() - began
    finally:
        process.stop()


def measured(folder: Path, many: Many, budget_bytes: int, empty_bytes: int) -> Density:
    """Ask one model over and over, then each in turn, and say what that took."""
    with runtime(folder, budget_bytes) as (process, ready_s):
        loaded_bytes = memory_bytes(process.pid)
        asking = Asking(folder / "r.sock")
        hot = [_asked(asking, many, 0) for _ in range(_HOT_ASKS)]
        turns = [_asked(asking, many, at) for _ in range(2) for at in range(len(many.slots))]
        asking.close()
        return Density(
            budget_mb=budget_bytes / 1e6,
            ready_s=round(ready_s, 2),
            loaded_mb=round((loaded_bytes - empty_bytes) / 1e6, 1),
            end_mb=round((memory_bytes(process.pid) - empty_bytes) / 1e6, 1),
            same_ms=_percentiles(hot),
            turns_ms=_percentiles(turns),
        )


def _asked(asking: Asking, many: Many, at: int) -> float:
    """Return the milliseconds until a model's answer, which must be its own."""
    payload = many.batch(at)
    began = time.perf_counter()
    found = asking.probability(payload)
    took_ms = (time.perf_counter() - began) * 1e3
    if abs(found - many.probabilities[at]) > _TOLERANCE:
        raise RuntimeError(
            f"{many.slots[at]}: expected {many.probabilities[at]}; found {found}"
        )
    return took_ms


def _percentiles(samples: Sequence[float]) -> dict[str, float]:
    return {f"p{at}": round(float(np.percentile(samples, at)), 3) for at in (50, 99)}


def run(folder: Path, models: int = MODELS) -> DensityReport:
    """Measure a budget that holds all models, and one that holds a few."""
    file = boosted_trees()
    made: Iterable[Served] = track(
        variants(file, models), "models", models, console=Console(stderr=True)
    )
    many = cached(folder / "full", made)
    with runtime(folder / "empty", _ROOMY_BYTES) as (process, _):
        empty_bytes = memory_bytes(process.pid)
    return DensityReport(
        date=today(),
        machine=machine(),
        models=models,
        model_bytes=len(file),
        empty_mb=round(empty_bytes / 1e6, 1),
        runs=[
            measured(folder / "full", many, budget, empty_bytes)
            for budget in (_ROOMY_BYTES, _TIGHT_BYTES)
        ],
    )


def _table(report: DensityReport) -> Table:
    table = Table(
        "budget, MB", "ready, s", "held, MB", "same model, ms", "each in turn, ms",
        title=f"{report.models} models of {report.model_bytes:,} bytes in one runtime",
    )  # fmt: skip
    for one in report.runs:
        table.add_row(
            f"{one.budget_mb:,.0f}",
            f"{one.ready_s:.1f}",
            f"{one.end_mb:,.0f}",
            *(
                f"p50 {ms['p50']:.2f}, p99 {ms['p99']:.2f}"
                for ms in (one.same_ms, one.turns_ms)
            ),
        )
    return table


def main() -> None:
    """Measure and print a table, then one line of JSON."""
    with tempfile.TemporaryDirectory(prefix="gyral-density-") as folder:
        report = run(Path(folder))
        backends = start_backends(Path(folder) / "stack")
        try:
            report = report.model_copy(update={"cold_start": cold.run(backends)})
        finally:
            backends.stack.down()
    Console().print(_table(report))
    publish(report)


if __name__ == "__main__":
    main()
