"""Events of the deployer: rollouts and the routes the gateway follows."""

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, ClassVar, Self

from pydantic import AwareDatetime, Field, model_validator

from gyral.contracts.events import Contract, Event, Topic
from gyral.contracts.names import ModelName, Reason, Sha256, Uuid, Version

_LARGEST_EPOCH = 2**62


class _OfRollout(Event):
    """An event of one rollout: its order is the model's."""

    model: ModelName
    version: Version
    run_id: Uuid
    request_id: Uuid
    epoch: int = Field(ge=1)
    """Epoch of the route that says the same."""

    @property
    def key(self) -> str:
        """The model's name."""
        return self.model


class RolloutStarted(_OfRollout):
    """The version is warm and gets its first traffic or shadow."""

    topic: ClassVar[Topic] = Topic("deployment.rollout.started.v1")

    stage: str = Field(max_length=40)
    previous: Version | None = None


class RolloutAdvanced(_OfRollout):
    """The version passed a step."""

    topic: ClassVar[Topic] = Topic("deployment.rollout.advanced.v1")

    stage: str = Field(max_length=40)
    weight: int = Field(ge=0, le=100)
    measured: dict[str, float | int | None]
    as_of: AwareDatetime | None = None


class RolloutCompleted(_OfRollout):
    """The version answers alone."""

    topic: ClassVar[Topic] = Topic("deployment.rollout.completed.v1")

    previous: Version | None = None
    as_of: AwareDatetime | None = None
    """Event time of the step that completed it; None before any prediction."""
    actor: str = Field(default="deployer", min_length=1, max_length=100)
    """Who decided: the deployer by its rules, or an operator by name."""
    reason: Reason = "rollout completed"


class RolloutAborted(_OfRollout):
    """The version was taken back and the previous one answers alone."""

    topic: ClassVar[Topic] = Topic("deployment.rollout.aborted.v1")

    stage: str = Field(max_length=40)
    reason: Reason
    actor: str = Field(default="deployer", min_length=1, max_length=100)
    measured: dict[str, float | int | None] = Field(default_factory=dict)
    as_of: AwareDatetime | None = None


class Steer(StrEnum):
    """What an operator may do with a rollout that goes on."""

    PAUSED = "paused"
    RESUMED = "resumed"
    APPROVED = "approved"


class RolloutSteered(_OfRollout):
    """An operator holds a rollout, or lets it go on; its route stays as it is."""

    topic: ClassVar[Topic] = Topic("deployment.rollout.steered.v1")

    order: Steer
    stage: str = Field(max_length=40)
    actor: str = Field(min_length=1, max_length=100)
    reason: Reason


class Datatype(StrEnum):
    """Tensor datatypes of Open Inference V2 that a model's input may have."""

    BOOL = "BOOL"
    INT64 = "INT64"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"


class Input(Contract):
    """One named input of a served version."""

    name: str = Field(max_length=63)
    datatype: Datatype
    nullable: bool = False


class Share(Contract):
    """One version's part in a route."""

    version: Version
    weight: int = Field(ge=0, le=100)
    """Percent of requests answered by it; 0 for a shadow or a warm spare."""
    shadow: bool = False
    """Gets a copy of every request; its answer is logged, never returned."""
    slot: str = Field(pattern=r"^[a-z0-9-]{1,63}@[0-9]{1,9}$")
    """Name under which the runtime holds it: model@version."""
    sha256: Sha256
    """Digest of the bytes the runtime must have in memory."""
    inputs: tuple[Input, ...] = Field(min_length=1)

    def model_copy(
        self, *, update: Mapping[str, object] | None = None, deep: bool = False
    ) -> Self:
        """Return a copy that works out anew what it knows of its inputs."""
        copied = super().model_copy(update=update, deep=deep)
        for known in ("names", "datatypes"):
            copied.__dict__.pop(known, None)
        return copied

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of its inputs, in their order."""
        return tuple(each.name for each in self.inputs)

    @cached_property
    def datatypes(self) -> frozenset[Datatype]:
        """The datatypes that its inputs have."""
        return frozenset(each.datatype for each in self.inputs)


class RouteChanged(Event):
    """Where a model's requests go from now on.

    A reader keeps the greatest epoch it has seen.
    """

    topic: ClassVar[Topic] = Topic(
        "deployment.route.changed.v1", partitions=1, compacted=True, dead_letters=False
    )

    model: ModelName
    epoch: int = Field(ge=1)
    shares: tuple[Share, ...] = Field(min_length=1)
    runtime: str = Field(max_length=200)
    """Address of the runtime's data socket: `unix:<path>` or `tcp:<host>:<port>`."""
    replicas: tuple[Annotated[str, Field(max_length=200)], ...] = Field(
        default=(), max_length=100
    )
    """Addresses of further runtimes that hold the same versions: any of them may be asked."""
    event_clock: bool
    """True when each prediction must say its event time."""
    dormant: bool = False
    """True while no runtime is up by intent: the address leads to one once it is asked for."""

    @property
    def key(self) -> str:
        """The model's name."""
        return self.model

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Every address that may be asked."""
        return (self.runtime, *self.replicas)

    @property
    def generation(self) -> int:
        """The epoch, under the name every projection uses."""
        return self.epoch


class RoutePinned(Event):
    """A gateway answers by a route of its own: an operator took a version back in an emergency.

    It came into effect without the deployer, which adopts it and publishes a later epoch.
    """

    topic: ClassVar[Topic] = Topic("deployment.route.pinned.v1")

    pin_id: Uuid
    """The same at every gateway that the operator reached, whatever epoch each was at."""
    route: RouteChanged
    """One version with all requests; its epoch lies beyond any that the deployer can have
    decided on before it hears of the pin."""
    actor: str = Field(min_length=1, max_length=100)
    reason: Reason
    pinned_at: AwareDatetime

    @model_validator(mode="after")
    def _one_version_has_all(self) -> Self:
        weights = [share.weight for share in self.route.shares]
        if weights != [100] or self.route.epoch >= _LARGEST_EPOCH:
            raise ValueError(
                "route: expected one version with all requests, at an epoch below 2**62; "
                f"found weights {weights} at {self.route.epoch}"
            )
        return self

    @property
    def key(self) -> str:
        """The model's name."""
        return self.route.model


class RuntimesScaled(Event):
    """The deployer wants another number of runtimes in a group; what makes them follows."""

    topic: ClassVar[Topic] = Topic("deployment.runtimes.scaled.v1")

    group: ModelName
    """`shared`, or the model whose runtimes they are."""
    before: int = Field(ge=0, le=100)
    after: int = Field(ge=0, le=100)
    why: Reason
    measured: dict[str, float | int | None] = Field(default_factory=dict)
    """What the decision was made by; empty where a declaration or a setting made it."""

    @property
    def key(self) -> str:
        """The group's name."""
        return self.group
