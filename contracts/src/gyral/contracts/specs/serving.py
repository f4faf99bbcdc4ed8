"""Where a model's versions are held: in the runtimes that all share, or in some of its own."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from gyral.contracts.specs.document import SpecModel, duration_seconds
from gyral.contracts.specs.stream import Duration

_QUEUE_S = 0.05
_IDLE = "15m"


class Placement(StrEnum):
    """Which runtimes hold a model."""

    SHARED = "shared"
    """Those that hold all models but the ones with runtimes of their own."""
    OWN = "own"
    """Some that hold this model alone."""


class Replicas(SpecModel):
    """Between which numbers of runtimes the deployer chooses."""

    min: int = Field(default=1, ge=0, le=100)
    """0: none while nobody asks; the first request waits for one."""
    max: int = Field(default=1, ge=1, le=100)

    @model_validator(mode="after")
    def _min_is_not_above_max(self) -> Self:
        if self.max < self.min:
            raise ValueError(
                f"replicas: expected min <= max; found {self.min} > {self.max}: raise max"
            )
        return self


class Serving(SpecModel):
    """Where the model is held, and by how many runtimes."""

    runtime: Placement = Placement.SHARED
    replicas: Replicas = Replicas()
    queue: float = Field(default=_QUEUE_S, gt=0, le=60)
    """Seconds that requests may wait for their batch; where they wait longer for a few seconds,
    a runtime is added."""
    idle: Duration | None = None
    """Wall time without a request after which the last runtime ends, where `replicas.min` is 0;
    None: 15m."""

    @model_validator(mode="after")
    def _shared_is_not_scaled(self) -> Self:
        if self.runtime is Placement.OWN:
            return self
        given = [
            name
            for name, differs in (
                ("replicas", self.replicas != Replicas()),
                ("queue", self.queue != _QUEUE_S),
                ("idle", self.idle is not None),
            )
            if differs
        ]
        if given:
            raise ValueError(
                f"{given[0]}: expected it only beside runtime: own; found it with runtime: "
                f"shared, whose number is the operator's affair: say runtime: own, or leave "
                f"out {', '.join(given)}"
            )
        return self

    @model_validator(mode="after")
    def _limits_are_used(self) -> Self:
        if self.queue != _QUEUE_S and self.replicas.max <= max(self.replicas.min, 1):
            raise ValueError(
                f"queue: expected replicas.max above {max(self.replicas.min, 1)}, for what a "
                f"longer queue adds; found {self.replicas.max}: raise replicas.max, or leave "
                "out queue"
            )
        if self.idle is not None and self.replicas.min > 0:
            raise ValueError(
                f"idle: expected replicas.min 0, so that the last runtime may end; found "
                f"{self.replicas.min}: set it to 0, or leave out idle"
            )
        if self.idle is not None and duration_seconds(self.idle) < 1:
            raise ValueError(f"idle: expected at least 1s; found {self.idle}")
        return self

    @property
    def idle_s(self) -> float:
        """Seconds without a request after which the last runtime ends."""
        return duration_seconds(self.idle or _IDLE)
