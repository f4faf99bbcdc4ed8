"""The deployer's knobs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from gyral.kit.settings import CommonSettings

_LONGEST_SOCKET_FOLDER = 85
"""A unix socket's path has at most 107 bytes; this leaves room for its name."""


class BackendName(StrEnum):
    """Who makes runtimes."""

    NONE = "none"
    PROCESS = "process"
    KUBERNETES = "kubernetes"


class Settings(CommonSettings):
    """Read once, in `__main__`; a missing or malformed value stops the process at start."""

    deployer_backend: BackendName = BackendName.NONE
    """Who makes runtimes: `process`, on this machine, `kubernetes`, in a cluster, or `none`:
    then somebody else starts those that RUNTIME_URL names, and no model has its own."""
    runtime_url: str | None = None
    """Control address of the shared runtime that somebody else starts, such as
    http://127.0.0.1:8108; None: the backend makes the shared runtimes too."""
    runtime_socket: Path | None = None
    """Data socket of that runtime, as routes tell it to the gateway."""
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

    runtimes_min: Annotated[int, Field(ge=1, le=100)] = 1
    """Fewest shared runtimes, where the backend makes them."""
    runtimes_max: Annotated[int, Field(ge=1, le=100)] = 1
    """Most shared runtimes, where the backend makes them."""
    runtimes_queue_s: Annotated[float, Field(gt=0, le=60)] = 0.05
    """Time in the queue above which a shared runtime is added, where the backend makes them."""
    deployer_sockets: Path | None = None
    """Folder of the data sockets of runtimes that the `process` backend makes, which gateways
    reach; at most 85 characters; None: `sockets` in STATE_DIR."""
    deployer_scale_out_s: Annotated[float, Field(ge=1, le=600)] = 3
    """How long requests must have waited too long, or been refused, before one is added."""
    deployer_scale_in_s: Annotated[float, Field(ge=1, le=86_400)] = 300
    """How long one runtime less must have done before one ends."""
    deployer_linger_s: Annotated[float, Field(ge=0, le=3600)] = 60
    """How long a runtime goes on that no route names any more: a gateway may follow an older
    one."""

    kubernetes_image: Annotated[str, Field(max_length=500)] = ""
    """Image of the runtimes that the `kubernetes` backend makes."""
    kubernetes_torch_image: Annotated[str, Field(max_length=500)] = ""
    """Image of those that hold models of torch; empty: KUBERNETES_IMAGE."""
    kubernetes_namespace: Annotated[
        str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    ] = "gyral-runtimes"
    """Where they are made: a namespace of their own, since who makes pods may mount secrets."""
    kubernetes_cpu: Annotated[str, Field(pattern=r"^[1-9][0-9]*m?$")] = "500m"
    """What each of them is promised of a core or cores, such as 500m or 2."""
    kubernetes_memory: Annotated[str, Field(pattern=r"^[1-9][0-9]*(Mi|Gi)$")] = "4Gi"
    """What each of them is promised, and at most has. Where they are not set for the deployer,
    RUNTIME_MEMORY_BYTES is a quarter of it, and RUNTIME_TRIAL_MEMORY_BYTES all of it."""
    kubernetes_settled_s: Annotated[int, Field(ge=0, le=540)] = 90
    """How long a new one must have answered before an older one ends for it: it covers loading
    all versions of its group, DEPLOYER_RECONCILE_S and the way of the routes to gateways."""
    kubernetes_service_host: str = ""
    """Where the API server is; every pod is told so by its cluster."""
    kubernetes_service_port: Annotated[int, Field(ge=1, le=65535)] = 443
    """Its port; every pod is told so by its cluster."""
    kubernetes_credentials: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    """Folder with the `token` that it is shown and the `ca.crt` that it is known by."""
    kubernetes_timeout_s: Annotated[float, Field(gt=0, le=60)] = 10
    """How long one of its answers may take."""

    @model_validator(mode="after")
    def _pods_have_an_image(self) -> Self:
        if self.deployer_backend is BackendName.KUBERNETES and not self.kubernetes_image:
            raise ValueError(
                "KUBERNETES_IMAGE: expected the image of runtimes, since DEPLOYER_BACKEND is"
                " kubernetes; found it unset: set it to the image of this deployer"
            )
        return self

    @model_validator(mode="after")
    def _somebody_makes_runtimes(self) -> Self:
        if (self.runtime_url is None) != (self.runtime_socket is None):
            lacking = "RUNTIME_SOCKET" if self.runtime_url else "RUNTIME_URL"
            raise ValueError(
                f"{lacking}: expected it beside the other of RUNTIME_URL and RUNTIME_SOCKET; "
                "found it unset: set both, or neither"
            )
        if self.runtime_url is None and self.deployer_backend is BackendName.NONE:
            raise ValueError(
                "RUNTIME_URL: expected the address of a runtime, since DEPLOYER_BACKEND is "
                "none; found it unset: set RUNTIME_URL and RUNTIME_SOCKET, or DEPLOYER_BACKEND"
            )
        if self.runtime_url is None and self.runtime_replicas:
            raise ValueError(
                "RUNTIME_REPLICAS: expected it beside RUNTIME_URL only; found RUNTIME_URL "
                "unset: set it, or leave RUNTIME_REPLICAS out"
            )
        return self

    @model_validator(mode="after")
    def _limits_can_be_kept(self) -> Self:
        if self.runtimes_max < self.runtimes_min:
            raise ValueError(
                f"RUNTIMES_MAX: expected at least RUNTIMES_MIN, {self.runtimes_min}; found "
                f"{self.runtimes_max}: raise it"
            )
        makes = self.deployer_backend is BackendName.PROCESS
        if makes and len(str(self.sockets)) > _LONGEST_SOCKET_FOLDER:
            raise ValueError(
                f"DEPLOYER_SOCKETS: expected a path of at most {_LONGEST_SOCKET_FOLDER} "
                f"characters, for the system's limit of a socket's; found "
                f"{len(str(self.sockets))}: set it to a shorter one"
            )
        return self

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
        """Control and data address of every runtime that somebody else starts."""
        if self.runtime_url is None:
            return ()
        pairs = (each.partition("=") for each in self.runtime_replicas.split(",") if each)
        first = (self.runtime_url, f"unix:{self.runtime_socket}")
        return (first, *((url, f"unix:{path}") for url, _, path in pairs))

    @property
    def sockets(self) -> Path:
        """Where data sockets lie of runtimes that are made here."""
        return self.deployer_sockets or self.state_dir / "sockets"
