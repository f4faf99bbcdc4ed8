"""A version's first run, in a process of its own: what is wrong with it harms nobody there.

`python -m gyral.runtime.engine.trial FOLDER MEMORY_BYTES CPU_S` says that it passed, or why
not. It is told no secrets: a version served as torch brings code, which first runs here.
"""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from gyral.contracts.evaluation import GoldenRows

TOLERANCE = 1e-5
"""Largest difference from the golden probabilities, absolute."""
REFUSED = 3
"""Exit status: the files are at fault; any other failure is the trial's own."""
PASSED = "passed"
"""What a trial says at its end: code that ends it before by accident has not passed.

Code that means to can say it too, as it can be good until it serves.
"""
_SENTENCES = (
    "code.zip: ",
    "golden",
    "manifest.json: ",
    "model: ",
    "model.safetensors: ",
    "network: ",
    "row ",
)
"""How complaints about a version with code begin: others are its code's, which nobody reads."""
_MOST_SAID = 400
_CODE = "code.zip"
_KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "OMP_NUM_THREADS",
)
"""What of the environment the process is told."""


async def try_out(folder: Path, *, memory_bytes: int, timeout_s: float) -> str | None:
    """Return None when the version in a folder serves its golden rows, else why not.

    Raises:
        OSError: the trial itself could not run.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, str(folder), str(memory_bytes), str(int(timeout_s) + 1),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={name: os.environ[name] for name in _KEPT if name in os.environ},
        start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout_s):
            _, said = await child.communicate()
    except TimeoutError:
        return f"trial: expected it to end within {timeout_s:g} s; found it still running"
    finally:
        with suppress(ProcessLookupError):  # with whatever it started
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
    last = (said.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]
    if child.returncode == 0 and last == PASSED:
        return None
    last = last[:_MOST_SAID]
    if (folder / _CODE).exists() and not _is_ours(last):
        last = "a message of its code"
    if child.returncode == REFUSED:
        return last
    return f"trial: expected exit status 0; found {child.returncode} ({last})"


def _is_ours(said: str) -> bool:
    return said in (PASSED, "no message") or (
        said.startswith(_SENTENCES) and said.isprintable()
    )


def main(folder: Path, memory_bytes: int, cpu_s: int) -> int:
    """Check the files in a folder and say what is wrong with them, if anything."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    said = os.fdopen(os.dup(2), "w", encoding="utf-8")
    for complaint in _complaints(folder):
        print(complaint, file=said, flush=True)  # the parent reads it
        return REFUSED
    print(PASSED, file=said, flush=True)
    return 0


def _complaints(folder: Path) -> Iterator[str]:
    """Yield what is wrong, in the order in which it is safe to look."""
    code = folder / _CODE
    if code.exists():
        _silence()
        weights = (folder / "model.safetensors").read_bytes()
        yield from _golden_complaints(folder, weights, code.read_bytes())
        return
    from gyral.runtime.engine.structure import structural_fault  # noqa: PLC0415 - under the limits

    onnx = (folder / "model.onnx").read_bytes()
    fault = structural_fault(onnx)
    if fault is not None:
        yield fault
        return
    yield from _golden_complaints(folder, onnx)


def _silence() -> None:
    """Have nobody read what a version's code prints: the last line is told to operators."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _golden_complaints(folder: Path, model: bytes, code: bytes | None = None) -> Iterator[str]:
    from gyral.runtime.engine import (  # noqa: PLC0415 - loaded under the limits
        PredictionError,
        Predictor,
        UnusableModelError,
    )

    try:
        golden = GoldenRows.model_validate_json((folder / "golden.json").read_bytes())
        predictor = Predictor.of((folder / "manifest.json").read_bytes(), model, code)
        found = predictor.predict_lists(golden.columns).tolist()
    except (UnusableModelError, PredictionError, ValidationError, MemoryError) as error:
        yield str(error).replace("\n", " ")
        return
    if len(found) != len(golden.probabilities):
        yield f"golden.json: expected {len(golden.probabilities)} rows, found {len(found)}"
        return
    for row, (expected, given) in enumerate(zip(golden.probabilities, found, strict=True)):
        if not abs(expected - given) <= TOLERANCE:
            yield f"golden row {row}: expected {expected}, found {given}; allowed {TOLERANCE:g}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
