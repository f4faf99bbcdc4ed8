"""Events of the registry: declared models, versions, verdicts and champions."""

from typing import ClassVar

from pydantic import AwareDatetime, Field

from gyral.contracts.events import Contract, Event, Topic
from gyral.contracts.names import DatasetPin, ModelName, Reason, Uuid, Version
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.training import Artifacts, Cause


class ModelDeclared(Event):
    """A model exists with this spec, or has a new generation.

    v1 grows by optional fields only.
    """

    topic: ClassVar[Topic] = Topic(
        "model.spec.declared.v1", partitions=1, compacted=True, dead_letters=False
    )

    name: ModelName
    generation: int = Field(ge=1)
    spec: ModelSpec

    @property
    def key(self) -> str:
        """The model's name."""
        return self.name


class _OfVersion(Event):
    """An event of one version of one model: its order is the model's."""

    model: ModelName
    version: Version
    run_id: Uuid
    request_id: Uuid

    @property
    def key(self) -> str:
        """The model's name."""
        return self.model


class VersionRegistered(_OfVersion):
    """A run's result has a number."""

    topic: ClassVar[Topic] = Topic("model.version.registered.v1")

    artifacts: Artifacts
    datasets: tuple[DatasetPin, ...]


class Check(Contract):
    """One gate of a verdict: what was measured against which limit."""

    name: str = Field(max_length=60)
    passed: bool
    measured: float | str | None = None
    limit: float | str | None = None


class VersionApproved(_OfVersion):
    """The version passed every gate and may be rolled out."""

    topic: ClassVar[Topic] = Topic("model.version.approved.v1")

    cause: Cause
    as_of: AwareDatetime
    artifacts: Artifacts
    bootstrap: bool
    """True when the model had no champion: no shadow, no canary."""
    champion_version: Version | None = None
    """The version it was judged against."""
    spec_generation: int = Field(ge=1)
    checks: tuple[Check, ...] = Field(min_length=1)


class VersionRejected(_OfVersion):
    """The version failed a gate."""

    topic: ClassVar[Topic] = Topic("model.version.rejected.v1")

    as_of: AwareDatetime
    reasons: tuple[Reason, ...] = Field(min_length=1)
    checks: tuple[Check, ...] = ()


class ChampionChanged(Event):
    """Another version is the model's champion."""

    topic: ClassVar[Topic] = Topic(
        "model.champion.changed.v1", partitions=1, compacted=True, dead_letters=False
    )

    model: ModelName
    generation: int = Field(ge=1)
    """Counts the model's champions: 1, 2, 3."""
    version: Version
    previous: Version | None = None
    run_id: Uuid
    as_of: AwareDatetime
    """Event time from which it answers alone."""
    artifacts: Artifacts
    actor: str = Field(min_length=1, max_length=100)
    reason: Reason

    @property
    def key(self) -> str:
        """The model's name."""
        return self.model
