"""The runtime's knobs."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from gyral.kit.settings import ProcessSettings
from gyral.kit.sockets import data_address
from gyral.runtime.domain import Flavour


class Settings(ProcessSettings):
    """Read once, in `__main__`; a missing or malformed value stops the process at start."""

    kafka_brokers: str = ""
    """Not used: the runtime is told what to do over HTTP."""
    runtime_listen: str
    """Where gateways ask: `unix:<path>`, of at most about 100 characters, or
    `tcp:<host>:<port>`, where each first shows the other that it knows the service key."""
    service_key: Annotated[SecretStr, Field(min_length=1, max_length=200)]
    """What the deployer shows; over TCP gateways show that they know it, and are shown so."""

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

    @field_validator("runtime_listen")
    @classmethod
    def _leads_somewhere(cls, value: str) -> str:
        data_address(value)
        return value
