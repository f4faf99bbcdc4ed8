"""A network in a process of its own: its code sees no credentials of the tables there.

`python -m gyral.trainer.engine.apart WIDTH MEMORY_BYTES` reads a network's files and then
matrices from standard input, and says on standard output what it answers.
"""

import os
import resource
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from gyral.modelling.columns import Floats
from gyral.modelling.manifest import TorchModel

MEMORY_BYTES = 8 << 30
"""Of address space, if the training itself may have more; torch alone takes most of it."""
CPU_S = 3600
TIMEOUT_S = 900.0
"""Longest it may take to answer all rows of a window."""
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH")
_LENGTH_BYTES = 8
_MOST_SAID = 400
_FAILED = b"failed:"
"""What an answer begins with that is none."""
_SENTENCES = ("network: ", "model.safetensors: ", "code.zip: ", "memory: ")
"""How ours begin: the code may write into the pipe what it likes, which nobody need read."""


class ApartError(ValueError):
    """The network did not load, or it gave no answers."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Apart:
    """A network on one thread, as a runtime has it; its process ends with this object."""

    process: subprocess.Popen[bytes]
    timeout_s: float

    @classmethod
    def of(
        cls,
        model: TorchModel,
        weights: bytes,
        code: bytes,
        *,
        width: int,
        memory_bytes: int = MEMORY_BYTES,
        timeout_s: float = TIMEOUT_S,
    ) -> Self:
        """Build a network from its files; raises ApartError."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(width), str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | {"OMP_NUM_THREADS": "1"},
        )
        apart = cls(process, timeout_s)
        weakref.finalize(apart, _end, process)
        apart._ask(0, msgspec.json.encode(model), weights, code)
        return apart

    def probabilities(self, matrix: NDArray[np.float32]) -> Floats:
        """Return P(positive) of each row, shape (n,); raises ApartError."""
        given = np.ascontiguousarray(matrix, np.float32)
        answer = self._ask(given.itemsize * len(given), given.tobytes())
        return np.frombuffer(answer, np.float32).astype(np.float64)

    def _ask(self, expected_bytes: int, *frames: bytes) -> bytes:
        """Send frames and return the one that comes back."""
        timer = threading.Timer(self.timeout_s, self.process.kill)
        timer.start()
        try:
            answer = self._exchange(expected_bytes, frames)
        finally:
            timer.cancel()
        if answer is None:
            raise ApartError(
                f"network: expected an answer within {self.timeout_s:g} s, {CPU_S} s of CPU"
                " and the limit of memory; found the end of its process"
            )
        if len(answer) == expected_bytes and not answer.startswith(_FAILED):
            return answer
        said = answer.removeprefix(_FAILED).decode("utf-8", "replace")
        if said.isprintable() and said.startswith(_SENTENCES):
            raise ApartError(said)
        raise ApartError(f"network: expected {expected_bytes} bytes; found others")

    def _exchange(self, expected_bytes: int, frames: tuple[bytes, ...]) -> bytes | None:
        assert self.process.stdin and self.process.stdout  # noqa: PT018, S101
        try:
            for frame in frames:
                _write(self.process.stdin, frame)
        except BrokenPipeError:
            return None
        return _read(self.process.stdout, max(expected_bytes, len(_FAILED) + _MOST_SAID))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    process.wait()


def _write(pipe: IO[bytes], frame: bytes) -> None:
    pipe.write(len(frame).to_bytes(_LENGTH_BYTES, "big"))
    pipe.write(frame)
    pipe.flush()


def _read(pipe: IO[bytes], most: int | None = None) -> bytes | None:
    """Return the next frame, cut at `most` bytes; None: there is no whole one."""
    head = pipe.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    length = int.from_bytes(head, "big")
    wanted = length if most is None else min(length, most + 1)
    frame = pipe.read(wanted)
    return frame if len(frame) == wanted else None


def main(width: int, memory_bytes: int) -> int:
    """Answer until standard input ends."""
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_CPU, CPU_S)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for silenced in (0, 1):
        os.dup2(nowhere, silenced)
    for answer in _answers(asked, width):
        _write(answers, answer)
    return 0


def _limit(kind: int, value: int) -> None:
    """Lower a limit, for the training's own may be lower already."""
    _, hard = resource.getrlimit(kind)
    lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (lower, lower))


def _answers(asked: IO[bytes], width: int) -> Iterator[bytes]:
    """Yield b"" for a network that was built, and what it says to each matrix."""
    # Under the limits.
    import torch  # noqa: PLC0415

    from gyral.modelling.networks import NetworkError, load_network  # noqa: PLC0415

    torch.set_num_threads(1)
    described, weights, code = (_read(asked) or b"" for _ in range(3))
    model = msgspec.json.decode(described, type=TorchModel)
    try:
        network = load_network(model, weights, code, width=width)
        yield b""
        while (matrix := _read(asked)) is not None:
            rows = np.frombuffer(matrix, np.float32).reshape(-1, width)
            yield network.probabilities(rows.copy()).tobytes()
    except NetworkError as error:
        yield _FAILED + str(error).encode()[:_MOST_SAID]
    except MemoryError:
        yield _FAILED + b"memory: expected the network within its limit; found MemoryError"


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
