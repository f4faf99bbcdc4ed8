"""The trainer's knobs."""

from typing import Annotated

from pydantic import Field

from gyral.kit.settings import CommonSettings


class Settings(CommonSettings):
    """Read once, in `__main__`; a missing or malformed value stops the process at start."""

    trainer_workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Trainings at once in this process."""
    trainer_threads: Annotated[int, Field(ge=1, le=256)] = 1
    """OMP_NUM_THREADS of each training; more than the cores it owns makes it slower."""
    trainer_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """How often a run is tried before it fails."""
    trainer_lease_s: Annotated[float, Field(gt=1, le=600)] = 15.0
    """How long a worker may be silent before another takes its run."""
    trainer_time_limit_s: Annotated[float, Field(gt=0, le=7 * 86_400)] = 3600.0
    """Longest a training may take; then it fails for good."""
    trainer_memory_bytes: Annotated[int, Field(ge=1 << 28)] | None = None
    """Limit of a training's address space; unset: none. CUDA needs far more than it uses."""
