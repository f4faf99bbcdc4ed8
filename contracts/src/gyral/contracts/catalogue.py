"""Every event and topic there is, for whatever must list them.

Provisioning, schemas, documents, tests.
"""

from collections.abc import Iterable

from gyral.contracts import access, data, deployment, inference, monitoring, training, versions
from gyral.contracts.batches import BatchSubmitted
from gyral.contracts.events import Event, Topic

EVENTS: tuple[type[Event], ...] = (
    data.StreamDeclared,
    versions.ModelDeclared,
    access.AccessKeyChanged,
    data.RecordSubmitted,
    data.WatermarkAdvanced,
    data.LabelsAccepted,
    data.DatasetCommitted,
    data.BatchQuarantined,
    training.RunRequested,
    training.RunAdmitted,
    training.RunSuppressed,
    training.RunStarted,
    training.RunProgressed,
    training.RunSucceeded,
    training.RunFailed,
    training.RunCancelled,
    versions.VersionRegistered,
    versions.VersionApproved,
    versions.VersionRejected,
    versions.ChampionChanged,
    deployment.RolloutStarted,
    deployment.RolloutAdvanced,
    deployment.RolloutCompleted,
    deployment.RolloutAborted,
    deployment.RolloutSteered,
    deployment.RouteChanged,
    deployment.RoutePinned,
    deployment.RuntimesScaled,
    inference.PredictionLogged,
    inference.ServingDemand,
    monitoring.WindowMeasured,
    monitoring.DriftDetected,
    monitoring.QualityDropped,
    monitoring.AlertRaised,
)

BATCHES: tuple[type[BatchSubmitted], ...] = (BatchSubmitted,)
"""Records of many rows, in line on the topic of rows: no JSON, so no JSON Schema."""


def topics() -> Iterable[Topic]:
    """Yield every topic with its dead-letter topic behind it."""
    for event in EVENTS:
        yield event.topic
        if event.topic.dead_letters:
            yield Topic(
                event.topic.dead_letter_name,
                partitions=1,
                retention_hours=2160,
                dead_letters=False,
            )
