"""A file that one process holds alone for as long as it lives, and not a moment longer."""

import asyncio
import fcntl
import os
from pathlib import Path

from gyral.kit.backoff import Backoff
from gyral.kit.health import UnstartableError


async def own(path: Path, *, patience_s: float, setting: str = "STATE_DIR") -> int:
    """Return a descriptor by which this process alone has a file; closing it gives it up.

    Who cannot have it is told to set `setting` to another folder.

    The kernel lets go of it when the process dies, however it dies.

    Raises:
        UnstartableError: another process still has it when the patience is over.
        OSError: the file cannot be made, or its file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        async with asyncio.timeout(patience_s) as patience:
            await _locked(descriptor)
    except TimeoutError as error:
        os.close(descriptor)
        if not patience.expired():
            raise
        raise UnstartableError(
            f"{path.parent}: expected no other process to use this folder; found one that does."
            f" Stop it, or set {setting} to a folder of this process alone."
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


async def _locked(descriptor: int) -> None:
    backoff = Backoff(first_s=0.02, limit_s=0.2)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await backoff.wait()
        else:
            return
