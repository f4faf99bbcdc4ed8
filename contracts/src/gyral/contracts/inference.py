"""What the gateway answered and was asked, as everyone behind it reads it."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from gyral.contracts.events import Event, Topic
from gyral.contracts.names import FieldName, MicrosUtc, ModelName, Uuid, Version


class Role(StrEnum):
    """Whether the caller saw the answer."""

    LIVE = "live"
    SHADOW = "shadow"


class PredictionLogged(Event):
    """One answered request, as columns with one entry a row.

    Prediction id = `<request_id>-<row>`.

    At least once; the identity is (request_id, role).
    """

    topic: ClassVar[Topic] = Topic(
        "inference.prediction.logged.v1", partitions=3, retention_hours=168
    )

    request_id: Uuid
    model: ModelName
    version: Version
    role: Role
    epoch: int = Field(ge=1)
    answered_at: MicrosUtc
    latency_us: int = Field(ge=0)
    """Time in the runtime, queueing included; wall clock."""
    entity_keys: tuple[str | None, ...]
    event_times: tuple[MicrosUtc | None, ...]
    """None for every row of a model on the wall clock that was given none; then answered_at
    counts."""
    features: dict[FieldName, tuple[float | int | bool | str | None, ...]]
    probabilities: tuple[float | None, ...] = Field(min_length=1)
    """P(positive) a row, or the prediction of a regression; None where the version failed
    (`error`)."""
    error: str | None = Field(default=None, max_length=200)
    """Why a shadow version gave no answer."""

    @property
    def key(self) -> str:
        """The request's id: its live and shadow answers share a partition."""
        return self.request_id


class ServingDemand(Event):
    """How much one gateway was asked for one model in a moment just past.

    A gateway that was asked nothing says that, without a model: silence tells nothing.

    At most once: what is lost only delays a decision.
    """

    topic: ClassVar[Topic] = Topic(
        "inference.demand.reported.v1", partitions=1, retention_hours=1, dead_letters=False
    )

    gateway: Annotated[str, Field(min_length=1, max_length=100)]
    model: ModelName | None
    """None: it was asked for none, and all figures are 0."""
    window_s: float = Field(gt=0, le=3600)
    requests: int = Field(ge=0, lt=2**53)
    """Requests that were taken."""
    refused: int = Field(ge=0, lt=2**53)
    """Requests that were refused, as too many were in hand."""
    answered: int = Field(ge=0, lt=2**53)
    """Requests whose batch a runtime answered."""
    queue_mean_s: float = Field(ge=0, le=3600)
    """Time from the coming of those that were answered to the leaving of their batch, without
    that in which no runtime was there, or none held the version."""
    queue_max_s: float = Field(ge=0, le=3600)
    waiting: int = Field(ge=0, lt=2**53)
    """Requests in hand for which no runtime is there."""

    @property
    def key(self) -> str:
        """The model's name, or the gateway's."""
        return self.model or self.gateway
