"""Who produces and who consumes each event.

Tests hold it against what the services really do.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gyral.contracts import access, data, deployment, inference, monitoring, training, versions
from gyral.contracts.events import Event

ALL = (
    "ingestion",
    "validation",
    "trainer",
    "registry",
    "deployer",
    "gateway",
    "monitor",
)
UPSTREAM = "upstream"
"""Systems outside Gyral that produce straight to Kafka."""
PEOPLE = "people"
"""Read by operators and their tools alone."""


@dataclass(frozen=True, slots=True)
class Parties:
    """Both ends of a topic."""

    producers: tuple[str, ...]
    consumers: tuple[str, ...]


PARTIES: Mapping[type[Event], Parties] = {
    data.StreamDeclared: Parties(
        ("registry",), ("ingestion", "validation", "trainer", "deployer", "monitor")
    ),
    versions.ModelDeclared: Parties(
        ("registry",), ("validation", "trainer", "deployer", "monitor")
    ),
    access.AccessKeyChanged: Parties(("registry",), ALL),
    data.RecordSubmitted: Parties((UPSTREAM, "ingestion"), ("validation",)),
    data.WatermarkAdvanced: Parties(
        (UPSTREAM, "ingestion", "validation", "gateway"), ("validation", "deployer", "monitor")
    ),
    data.LabelsAccepted: Parties(("validation",), ("monitor",)),
    data.DatasetCommitted: Parties(("validation",), ("trainer", "registry")),
    data.BatchQuarantined: Parties(("validation",), (PEOPLE,)),
    training.RunRequested: Parties(("monitor", "registry"), ("trainer",)),
    training.RunAdmitted: Parties(("trainer",), (PEOPLE,)),
    training.RunSuppressed: Parties(("trainer",), ("registry",)),
    training.RunStarted: Parties(("trainer",), ("validation",)),
    training.RunProgressed: Parties(("trainer",), (PEOPLE,)),
    training.RunSucceeded: Parties(("trainer",), ("registry",)),
    training.RunFailed: Parties(("trainer",), ("registry",)),
    training.RunCancelled: Parties(("trainer",), ("registry",)),
    versions.VersionRegistered: Parties(("registry",), (PEOPLE,)),
    versions.VersionApproved: Parties(("registry",), ("deployer",)),
    versions.VersionRejected: Parties(("registry",), ("trainer",)),
    versions.ChampionChanged: Parties(("registry",), ("trainer", "monitor")),
    deployment.RolloutStarted: Parties(("deployer",), (PEOPLE,)),
    deployment.RolloutAdvanced: Parties(("deployer",), (PEOPLE,)),
    deployment.RolloutCompleted: Parties(("deployer",), ("registry", "trainer")),
    deployment.RolloutAborted: Parties(("deployer",), ("registry", "trainer")),
    deployment.RolloutSteered: Parties(("deployer",), ("registry",)),
    deployment.RouteChanged: Parties(("deployer",), ("gateway",)),
    deployment.RoutePinned: Parties(("gateway",), ("deployer", "registry")),
    deployment.RuntimesScaled: Parties(("deployer",), (PEOPLE,)),
    inference.PredictionLogged: Parties(("gateway",), ("validation", "deployer", "monitor")),
    inference.ServingDemand: Parties(("gateway",), ("deployer",)),
    monitoring.WindowMeasured: Parties(("monitor",), (PEOPLE,)),
    monitoring.DriftDetected: Parties(("monitor",), (PEOPLE,)),
    monitoring.QualityDropped: Parties(("monitor",), ("registry",)),
    monitoring.AlertRaised: Parties(("validation", "monitor"), (PEOPLE,)),
}
