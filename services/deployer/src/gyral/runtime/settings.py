"""The runtime's knobs."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr

from gyral.kit.settings import ProcessSettings
from gyral.runtime.domain import Flavour


class Settings(ProcessSettings):
    """Read once, in `__main__`; a missing or malformed value stops the process at start."""

    kafka_brokers: str = ""
    """Not used: the runtime is told what to do over HTTP."""
    runtime_socket: Path
    """Unix socket on which gateways ask; at most about 100 characters."""
    service_key: SecretStr
    """What the deployer shows."""

    runtime_flavour: Flavour = Flavour.ONNX
    """`torch`: serves versions that bring code beside ONNX ones; for one model's own runtime.

    Their code runs in this process, with all that the process may do."""
    runtime_max_models: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Versions held at once, in memory or on disk; more are refused until some are unloaded."""
    runtime_memory_bytes: Annotated[int, Field(ge=1 << 20)] = 1 << 30
    """What the versions in memory may take together; those not asked longest wait on disk."""
    runtime_trial_timeout_s: Annotated[float, Field(gt=0, le=600)] = 60
    """How long a version's first run may take in its own process."""
    runtime_trial_memory_bytes: Annotated[int, Field(ge=256 << 20)] = 8 << 30
    """Address space of that process, shared libraries included."""
