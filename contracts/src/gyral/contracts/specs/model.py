"""A model: what it predicts, and how it is trained, judged, rolled out and watched."""

import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from gyral.contracts.names import FieldName, ModelName, StreamName
from gyral.contracts.specs.document import Metadata, SpecModel, duration_seconds
from gyral.contracts.specs.serving import Placement, Serving
from gyral.contracts.specs.stream import Duration

_EVERYTHING = 100
"""Percent of the traffic that the last canary step has."""

Expression = Annotated[str, StringConstraints(min_length=3, max_length=200)]
"""`field operator literal`, for instance `arrival_delay_min > 15`."""


class Task(StrEnum):
    """What the model predicts."""

    BINARY_CLASSIFICATION = "binary-classification"


class Features(SpecModel):
    """The model's inputs: fields of one stream, in this order."""

    stream: StreamName
    fields: tuple[FieldName, ...] = Field(min_length=1, max_length=500)

    @model_validator(mode="after")
    def _fields_are_distinct(self) -> Self:
        if len(set(self.fields)) != len(self.fields):
            raise ValueError("fields: expected distinct names; found one twice")
        return self


class Label(SpecModel):
    """What came true, and how it is matched to what was predicted."""

    stream: StreamName
    key: FieldName
    """Field of the label stream that equals the feature row's key."""
    positive: Expression
    horizon: Duration = "24h"
    """Event time after a row by which its label is known, or never."""


class Trainer(StrEnum):
    """Training recipes that ship with Gyral."""

    HIST_GRADIENT_BOOSTING = "sklearn.hist_gradient_boosting"
    LOGISTIC_REGRESSION = "sklearn.logistic_regression"
    MLP = "torch.mlp"
    TRANSFORMER = "torch.transformer"

    @property
    def of_torch(self) -> bool:
        """True for networks, which can be served as torch."""
        return self in {Trainer.MLP, Trainer.TRANSFORMER}


class Served(StrEnum):
    """The format in which a recipe's models are served: its parameter `serve`."""

    ONNX = "onnx"
    TORCH = "torch"


class Train(SpecModel):
    """How a version is made."""

    trainer: Trainer
    parameters: dict[str, float | int | str | bool] = Field(default_factory=dict)
    """Recipe parameters; the recipe refuses names it does not know."""
    window: Literal["all"] | Duration = "all"
    holdout: Duration = "14d"
    """Newest event time kept out of training: the gate's window."""
    folds: int = Field(default=3, ge=2, le=20)
    """Whole-block folds for out-of-fold losses."""
    min_rows: int = Field(default=1000, ge=1)
    bootstrap_at: AwareDatetime | None = None
    """Event time of the first training; None: as soon as min_rows are labelled."""
    seed: int = 7

    @property
    def served(self) -> Served:
        """The format of the versions that it makes."""
        return Served(str(self.parameters.get("serve", Served.ONNX)))

    @model_validator(mode="after")
    def _format_is_served(self) -> Self:
        wanted = self.parameters.get("serve")
        if wanted is None:
            return self
        if not self.trainer.of_torch:
            raise ValueError(
                f"parameters.serve: expected none for {self.trainer}, whose models are ONNX; "
                f"found {wanted!r}"
            )
        if wanted not in set(Served):
            raise ValueError(f"parameters.serve: expected onnx or torch; found {wanted!r}")
        return self


class ExcessLoss(SpecModel):
    """Mean of (log-loss - entropy) over the last blocks is significantly above a limit."""

    above: float = Field(default=0.02, ge=0)
    t: float = Field(default=2.0, ge=0)
    window: int = Field(default=14, ge=2, le=366)
    """Blocks."""


class Cusum(SpecModel):
    """One-sided CUSUM over standardised block log-loss."""

    k: float = Field(default=0.5, ge=0)
    h: float = Field(default=5.0, gt=0)


class Schedule(SpecModel):
    """A timer in event time."""

    every: Duration


class Trigger(SpecModel):
    """One condition; exactly one of its fields is given."""

    excess_loss: ExcessLoss | None = None
    cusum: Cusum | None = None
    schedule: Schedule | None = None
    rows: int | None = Field(default=None, ge=1)
    """New labelled rows since the champion's training data."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = sorted(name for name, value in self if value is not None)
        if len(given) != 1:
            raise ValueError(
                f"expected exactly one of excess_loss, cusum, schedule, rows; found {given}"
            )
        return self


class Triggers(SpecModel):
    """When the loop asks for another version."""

    cooldown: Duration = "14d"
    """Event time between two admitted requests."""
    anyOf: tuple[Trigger, ...] = ()  # noqa: N815 - the field's standard spelling
    on_spec_change: bool = True
    """Declaring other features, another label, recipe or block trains anew.

    The declaration is compared with the one before; a recipe's new code alone asks for nothing.
    """


class LogLossGate(SpecModel):
    """The day-block bootstrap lower bound of the paired log-loss gain must exceed a limit."""

    lower_bound_above: float = 0.0
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    unit: Literal["block"] = "block"
    min_blocks: int = Field(default=7, ge=2)


class Gates(SpecModel):
    """What a version must show before it may serve."""

    log_loss: LogLossGate = LogLossGate()
    ece: float = Field(default=0.01, ge=0)
    """How much worse than the champion's the calibration error may be."""
    calibration: float = Field(default=0.05, gt=0)
    """Largest |mean prediction - base rate| on the holdout."""
    latency_ratio: float = Field(default=1.5, gt=0)
    slices: tuple[FieldName, ...] = ()
    slice_harm: float = Field(default=0.02, ge=0)
    """Log-loss in nats that a slice of 500 or more rows may be harmed by, at the lower
    confidence bound."""


class AbortIf(SpecModel):
    """What ends a rollout at once."""

    error_rate: float = Field(default=0.01, ge=0, le=1)
    p99_ratio: float = Field(default=2.0, gt=0)
    score_shift: float = Field(default=0.3, gt=0, le=1)
    """How far the mean of the version's scores may surely lie from the champion's."""


class Approval(StrEnum):
    """Whether an operator must let a version answer after its shadow."""

    NONE = "none"
    REQUIRED = "required"


class Rollout(SpecModel):
    """How a version takes over; counts are rows answered by the model."""

    shadow: int = Field(default=500, ge=0)
    canary: tuple[Annotated[int, Field(ge=1, le=100)], ...] = (5, 25, 100)
    per_step: int = Field(default=2000, ge=1)
    abort_if: AbortIf = AbortIf()
    approval: Approval = Approval.NONE
    ab: int | None = Field(default=None, ge=1, le=99)
    """Percent of requests that the version answers after its shadow, in place of canary steps,
    until an operator promotes or aborts it."""
    step_limit: Duration = "30d"
    """Longest time a step may take, on the stream's clock; then the version is taken back.

    While it is paused no time counts.
    """

    @model_validator(mode="after")
    def _steps_grow_to_all(self) -> Self:
        if list(self.canary) != sorted(set(self.canary)) or (
            self.canary and self.canary[-1] != _EVERYTHING
        ):
            raise ValueError(
                f"canary: expected growing percents that end in 100; found {list(self.canary)}"
            )
        return self

    @model_validator(mode="after")
    def _steps_can_be_taken(self) -> Self:
        if self.approval is Approval.REQUIRED and not self.shadow:
            raise ValueError("approval: expected a shadow to approve by; found shadow: 0")
        if self.ab is not None and self.canary:
            raise ValueError(
                f"ab: expected no canary steps beside it, canary: []; found {list(self.canary)}"
            )
        if duration_seconds(self.step_limit) == 0:
            raise ValueError(f"step_limit: expected a time above 0; found {self.step_limit}")
        return self


class Monitoring(SpecModel):
    """How the served model is watched."""

    block: Duration = "24h"
    """Length of a window in event time."""
    min_rows: int = Field(default=30, ge=1)
    """Labelled rows a window needs to be judged."""

    @field_validator("block")
    @classmethod
    def _has_length(cls, block: str) -> str:
        if duration_seconds(block) == 0:
            raise ValueError(f"expected a length above 0; found {block}")
        return block


class ModelBody(SpecModel):
    """The declaration proper."""

    task: Task
    features: Features
    label: Label
    train: Train
    triggers: Triggers = Triggers()
    gates: Gates = Gates()
    rollout: Rollout = Rollout()
    serving: Serving = Field(default=Serving(), exclude_if=lambda given: given == Serving())
    monitor: Monitoring = Monitoring()

    @model_validator(mode="after")
    def _label_is_no_feature(self) -> Self:
        if (
            self.features.stream == self.label.stream
            and self.positive_field in self.features.fields
        ):
            raise ValueError(
                f"features.fields: {self.positive_field!r} is the label, so it is no feature"
            )
        return self

    @model_validator(mode="after")
    def _torch_has_runtimes_of_its_own(self) -> Self:
        if self.train.served is Served.TORCH and self.serving.runtime is not Placement.OWN:
            raise ValueError(
                "serving.runtime: expected own, since train.parameters.serve is torch: its "
                f"code runs in no process that others share; found {self.serving.runtime}: "
                "declare serving: {runtime: own}, or serve: onnx"
            )
        return self

    @property
    def positive_field(self) -> str:
        """The label stream's field that the positive expression reads."""
        return re.split(r"[^A-Za-z0-9_]", self.label.positive.strip(), maxsplit=1)[0]


class ModelSpec(SpecModel):
    """A model document, as `gyral apply -f` sends it."""

    apiVersion: str = Field(pattern=r"^gyral/v1$")  # noqa: N815 - the field's standard spelling
    kind: str = Field(pattern=r"^Model$")
    metadata: Metadata
    spec: ModelBody

    @model_validator(mode="after")
    def _own_runtimes_are_told_apart(self) -> Self:
        if self.spec.serving.runtime is Placement.OWN and self.name == Placement.SHARED:
            raise ValueError(
                "metadata.name: expected another name than shared beside runtime: own, since "
                "its runtimes are called by it; found shared: rename the model"
            )
        return self

    @property
    def name(self) -> ModelName:
        """The model's name."""
        return self.metadata.name
