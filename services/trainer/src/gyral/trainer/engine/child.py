"""The training process from outside: started ahead of need, read by line, killed at last."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

from gyral.trainer.engine.order import LINE, TABLE_OPTIONS, Done, Progress, Refused

_KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "PYTHONPATH",
)
_TAIL_BYTES = 2000


class TrainingDiedError(RuntimeError):
    """The process ended without a word on what came out; it may be tried again."""


class TrainingTooLongError(ValueError):
    """The process was stopped at its time limit."""


class Trainers:
    """Starts training processes, and keeps one ahead whose imports are done when needed."""

    def __init__(self, *, threads: int, table_options: str, time_limit_s: float) -> None:
        self._environment = environment(threads, table_options)
        self._time_limit_s = time_limit_s
        self._spare: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the spare process."""
        if self._spare is None or self._spare.returncode is not None:
            self._spare = await self._spawn()

    async def stop(self) -> None:
        """End the spare process."""
        spare, self._spare = self._spare, None
        if spare is not None:
            await end(spare)

    def healthy(self) -> str | None:
        """Answer None: a dead spare is replaced when it is needed."""
        return None

    async def train(
        self, order: Path, on_progress: Callable[[Progress], Awaitable[None]]
    ) -> Done | Refused:
        """Have an order trained; the process dies with this call, however it ends.

        Raises:
            TrainingDiedError: the process ended without a result.
            TrainingTooLongError: it did not end within the time limit.
        """
        spare, self._spare = self._spare, None
        process = (
            spare if spare is not None and spare.returncode is None else await self._spawn()
        )
        try:
            async with asyncio.timeout(self._time_limit_s) as limit:
                return await self._follow(process, order, on_progress)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TrainingTooLongError(
                "training: expected an end within TRAINER_TIME_LIMIT_S = "
                f"{self._time_limit_s:g}; found none"
            ) from error
        finally:
            await end(process)

    async def _spawn(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gyral.trainer.engine",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
            limit=1 << 20,
        )

    async def _follow(
        self,
        process: asyncio.subprocess.Process,
        order: Path,
        on_progress: Callable[[Progress], Awaitable[None]],
    ) -> Done | Refused:
        assert process.stdin and process.stdout and process.stderr  # noqa: PT018, S101
        errors = asyncio.create_task(_tail(process.stderr))
        try:
            with suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(f"{order}\n".encode())
                await process.stdin.drain()
            async for line in process.stdout:
                said = LINE.validate_json(line)
                if not isinstance(said, Progress):
                    return said
                await on_progress(said)
            code = await process.wait()
            raise TrainingDiedError(
                f"training process: expected a result; found its end with {code}: "
                f"{await errors}"
            )
        finally:
            errors.cancel()


def environment(threads: int, table_options: str) -> Mapping[str, str]:
    """Return a training process's whole environment: no secrets but the tables' store's."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return kept | dict.fromkeys(limits, str(threads)) | {TABLE_OPTIONS: table_options}


async def _tail(stream: asyncio.StreamReader) -> str:
    """Read a stream to its end and return its last words."""
    kept = b""
    while chunk := await stream.read(1 << 16):
        kept = (kept + chunk)[-_TAIL_BYTES:]
    return kept.decode("utf-8", "replace").strip()[-300:]


async def end(process: asyncio.subprocess.Process) -> None:
    """End a process and whatever it started, which may live on when it is dead itself."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
