"""The deployer's knobs."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr

from gyral.kit.settings import CommonSettings


class Settings(CommonSettings):
    """Read once, in `__main__`; a missing or malformed value stops the process at start."""

    runtime_url: str
    """Control address of the runtime, such as http://127.0.0.1:8108."""
    runtime_socket: Path
    """Data socket of the runtime, as routes tell it to the gateway."""
    service_key: SecretStr
    """What the deployer shows the runtime."""

    deployer_load_timeout_s: Annotated[float, Field(gt=0, le=600)] = 120
    """How long the runtime may take to fetch, check and warm up a version."""
    deployer_lease_s: Annotated[float, Field(gt=1, le=600)] = 30
    """How long a preparation may go without a heartbeat before another process takes it."""
    deployer_reconcile_s: Annotated[float, Field(gt=0, le=600)] = 2
    """How often routed versions are compared with what the runtime holds."""
