"""What the monitor measured, and what it warns of."""

from enum import StrEnum
from typing import ClassVar

from pydantic import AwareDatetime, Field

from gyral.contracts.events import Event, Topic
from gyral.contracts.names import ModelName, Reason, Version


class _OfWindow(Event):
    """An event of one closed window of one model's champion."""

    model: ModelName
    version: Version
    window_start: AwareDatetime
    window_end: AwareDatetime

    @property
    def key(self) -> str:
        """The model's name."""
        return self.model


class WindowMeasured(_OfWindow):
    """A window closed."""

    topic: ClassVar[Topic] = Topic("monitor.window.measured.v1")

    rows: int = Field(ge=0)
    labelled_rows: int = Field(ge=0)
    measures: dict[str, float | None]
    """log_loss, entropy, excess_loss, ece, cusum, drift_max_z ... by name; None where not
    computable."""


class DriftDetected(_OfWindow):
    """The inputs left what the training blocks showed; a warning, never a reason to promote."""

    topic: ClassVar[Topic] = Topic("monitor.drift.detected.v1")

    feature: str = Field(max_length=63)
    max_z: float
    threshold: float


class QualityDropped(_OfWindow):
    """A label-based detector alarms."""

    topic: ClassVar[Topic] = Topic("monitor.quality.dropped.v1")

    detector: str = Field(max_length=40)
    measured: float
    threshold: float
    request_id: str
    """The retraining it asked for."""


class Severity(StrEnum):
    """How soon a person looks."""

    WARNING = "warning"
    PAGE = "page"


class AlertRaised(Event):
    """A person must look."""

    topic: ClassVar[Topic] = Topic("ops.alert.raised.v1")

    service: str = Field(max_length=40)
    subject: str = Field(max_length=256)
    severity: Severity
    reason: Reason

    @property
    def key(self) -> str:
        """What it is about."""
        return self.subject
