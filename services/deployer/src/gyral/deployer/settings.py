"""The deployer's knobs."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from gyral.kit.settings import CommonSettings


class Settings(CommonSettings):
    """Read once, in `__main__`; a missing or malformed value stops the process at start."""

    runtime_url: str
    """Control address of the runtime, such as http://127.0.0.1:8108."""
    runtime_socket: Path
    """Data socket of the runtime, as routes tell it to the gateway."""
    runtime_replicas: str = ""
    """Further runtimes that hold the same versions, each as `control address=data socket`,
    separated by commas: `http://127.0.0.1:8118=/run/gyral/runtime-2.sock`."""
    service_key: SecretStr
    """What the deployer shows the runtimes."""

    deployer_load_timeout_s: Annotated[float, Field(gt=0, le=600)] = 120
    """How long the runtime may take to fetch, check and warm up a version."""
    deployer_lease_s: Annotated[float, Field(gt=1, le=600)] = 30
    """How long a preparation may go without a heartbeat before another process takes it."""
    deployer_reconcile_s: Annotated[float, Field(gt=0, le=600)] = 2
    """How often routed versions are compared with what the runtimes hold."""

    @model_validator(mode="after")
    def _replicas_are_pairs(self) -> Self:
        for pair in filter(None, self.runtime_replicas.split(",")):
            url, _, path = pair.partition("=")
            if not url.startswith(("http://", "https://")) or not path.startswith("/"):
                raise ValueError(
                    "RUNTIME_REPLICAS: expected `control address=data socket`, such as"
                    f" `http://127.0.0.1:8118=/run/gyral/runtime-2.sock`; found {pair[:80]!r}"
                )
        return self

    @property
    def runtimes(self) -> tuple[tuple[str, str], ...]:
        """Control and data address of every runtime, as clients and routes take them."""
        pairs = (each.partition("=") for each in self.runtime_replicas.split(",") if each)
        first = (self.runtime_url, f"unix:{self.runtime_socket}")
        return (first, *((url, f"unix:{path}") for url, _, path in pairs))
