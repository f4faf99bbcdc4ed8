"""Events of a training run, from the request to its outcome."""

from enum import StrEnum
from typing import ClassVar

from pydantic import AwareDatetime, Field

from gyral.contracts.events import Contract, Event, Topic
from gyral.contracts.names import BlobRef, DatasetPin, ModelName, Reason, Sha256, Uuid, Version


class Cause(StrEnum):
    """Why a run is asked for."""

    BOOTSTRAP = "bootstrap"
    EXCESS_LOSS = "excess_loss"
    CUSUM = "cusum"
    ROWS = "rows"
    SCHEDULE = "schedule"
    CODE = "code"
    MANUAL = "manual"
    STALE_VERDICT = "stale_verdict"
    """The champion changed while the run was judged."""


class _OfModel(Event):
    """An event of one model's loop: its order is the model's."""

    request_id: Uuid
    model: ModelName

    @property
    def key(self) -> str:
        """The model's name."""
        return self.model


class _OfRun(_OfModel):
    """An event of one admitted run."""

    run_id: Uuid


class RunRequested(_OfModel):
    """Somebody wants the model trained on what was known at `as_of`.

    The same id is the same request.
    """

    topic: ClassVar[Topic] = Topic("training.run.requested.v1")

    cause: Cause
    as_of: AwareDatetime
    """Event time of the decision: rows and labels known later do not enter."""
    spec_generation: int | None = Field(default=None, ge=1)
    evidence: dict[str, float | int | str | None] = Field(default_factory=dict)
    """The numbers that led to it, by name."""


class RunAdmitted(_OfRun):
    """The request became a run and is in the queue."""

    topic: ClassVar[Topic] = Topic("training.run.admitted.v1")

    cause: Cause
    as_of: AwareDatetime


class Suppression(StrEnum):
    """Why a request becomes no run."""

    IN_FLIGHT = "in_flight"
    COOLDOWN = "cooldown"
    UNKNOWN_MODEL = "unknown_model"
    NO_DATA = "no_data"


class RunSuppressed(_OfModel):
    """The request becomes no run."""

    topic: ClassVar[Topic] = Topic("training.run.suppressed.v1")

    why: Suppression
    detail: Reason
    as_of: AwareDatetime


class RunStarted(_OfRun):
    """A worker took the run."""

    topic: ClassVar[Topic] = Topic("training.run.started.v1")

    attempt: int = Field(ge=1)
    datasets: tuple[DatasetPin, ...] = Field(min_length=1)


class RunProgressed(_OfRun):
    """How far the run is."""

    topic: ClassVar[Topic] = Topic("training.run.progressed.v1", retention_hours=72)

    stage: str = Field(max_length=100)
    share: float = Field(ge=0, le=1)


class Artifacts(Contract):
    """What a run leaves in the object store."""

    onnx: BlobRef
    """The model: one ONNX file, or, where there is `code`, the weights as safetensors.

    Its digest names the version; weights name the code that they belong to.
    """
    code: BlobRef | None = None
    """Sources from which torch builds the network; None: the model is ONNX."""
    manifest: BlobRef
    profile: BlobRef
    golden: BlobRef
    """Rows with the outputs this model must give: the warm-up and smoke check."""
    evaluation: BlobRef


class RunSucceeded(_OfRun):
    """The run made a model and measured it."""

    topic: ClassVar[Topic] = Topic("training.run.succeeded.v1")

    cause: Cause
    as_of: AwareDatetime
    artifacts: Artifacts
    datasets: tuple[DatasetPin, ...] = Field(min_length=1)
    trained_until: AwareDatetime
    """No row or label known later was trained on; the holdout lies after it."""
    champion_version: Version | None = None
    """Version compared on the same rows; None when there was no champion."""
    code_sha256: Sha256
    spec_generation: int = Field(ge=1)
    seed: int
    train_rows: int = Field(ge=1)
    holdout_rows: int = Field(ge=0)
    metrics: dict[str, float | None]


class RunFailed(_OfRun):
    """The run came to nothing."""

    topic: ClassVar[Topic] = Topic("training.run.failed.v1")

    reason: Reason
    attempts: int = Field(ge=1)
    as_of: AwareDatetime


class RunCancelled(_OfRun):
    """Somebody stopped the run."""

    topic: ClassVar[Topic] = Topic("training.run.cancelled.v1")

    actor: str = Field(min_length=1, max_length=100)
    reason: Reason
    as_of: AwareDatetime
