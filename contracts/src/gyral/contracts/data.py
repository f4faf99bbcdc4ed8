"""Events of the data plane's way in.

Declared streams, records, markers, labels, dataset versions, quarantine.
"""

from datetime import datetime
from typing import ClassVar

from pydantic import AwareDatetime, Field, JsonValue

from gyral.contracts.events import Contract, Event, Topic
from gyral.contracts.names import DatasetPin, FieldName, MicrosUtc, Reason, StreamName
from gyral.contracts.specs.stream import StreamSpec


class StreamDeclared(Event):
    """A stream exists with these fields, or has a new generation.

    v1 grows by optional fields only.
    """

    topic: ClassVar[Topic] = Topic(
        "data.stream.declared.v1", partitions=1, compacted=True, dead_letters=False
    )

    name: StreamName
    generation: int = Field(ge=1)
    spec: StreamSpec

    @property
    def key(self) -> str:
        """The stream's name."""
        return self.name


class RecordSubmitted(Event):
    """Upstream says: this row happened. Nothing about it is checked yet.

    One row a Kafka record.
    """

    topic: ClassVar[Topic] = Topic(
        "data.record.submitted.v1", partitions=3, retention_hours=168
    )

    stream: StreamName
    schema_version: int = Field(default=1, ge=1)
    record_key: str = Field(min_length=1, max_length=256)
    values: dict[FieldName, JsonValue]

    @property
    def key(self) -> str:
        """The row's identity within its stream."""
        return self.record_key


class WatermarkAdvanced(Event):
    """A marker inside a partition: what follows in it lies at or after this event time.

    Produced into every partition of the data topic it speaks of: by `ingestion` and upstream
    into `data.record.submitted.v1` (subject: a stream), by `validation` into
    `data.label.accepted.v1` (subject: a stream) and by `gateway` into
    `inference.prediction.logged.v1` (subject: a model).
    """

    topic: ClassVar[Topic] = Topic(
        "data.watermark.advanced.v1", partitions=1, retention_hours=168
    )

    subject: StreamName
    event_time: AwareDatetime

    @property
    def key(self) -> str:
        """The stream or model whose time advanced."""
        return self.subject


class LabelsAccepted(Event):
    """Rows of a label stream that passed validation, as columns of equal length.

    Delivered at least once; a label is (stream, key, revision).
    """

    topic: ClassVar[Topic] = Topic("data.label.accepted.v1", partitions=3, retention_hours=168)

    stream: StreamName
    keys: tuple[str, ...] = Field(min_length=1)
    event_times: tuple[MicrosUtc, ...]
    revisions: tuple[int, ...]
    values: dict[FieldName, tuple[JsonValue, ...]]

    @property
    def key(self) -> str:
        """The stream's name; order within a partition is the order of acceptance."""
        return self.stream


class Violation(Contract):
    """A block of event time that failed an expectation that blocks and was not released."""

    expectation: str = Field(max_length=63)
    block_start: AwareDatetime
    block_end: AwareDatetime
    measured: float
    limit: str = Field(max_length=200)
    """What was expected, in words."""


class DatasetCommitted(Event):
    """A stream's table has a new version, or more of it may be used."""

    topic: ClassVar[Topic] = Topic("data.dataset.committed.v1", partitions=3)

    dataset: DatasetPin
    rows: int = Field(ge=0)
    """Rows in the table at this version."""
    table_uri: str = Field(pattern=r"^s3://[a-z0-9.-]+/[A-Za-z0-9._/-]+$")
    passed_until: AwareDatetime | None = None
    """Event time before which every expectation that blocks was met; None: the watermark."""
    violations: tuple[Violation, ...] = Field(default=(), max_length=20)
    """The oldest blocks that hold the data back."""

    @property
    def key(self) -> str:
        """The stream's name."""
        return self.dataset.stream

    @property
    def passed(self) -> bool:
        """True when nothing holds the data back; derived, so it cannot disagree."""
        return not self.violations

    @property
    def usable_until(self) -> datetime:
        """Event time up to which the rows may be learned from."""
        return self.passed_until or self.dataset.watermark


class BatchQuarantined(Event):
    """Rows were refused and kept aside with their reasons."""

    topic: ClassVar[Topic] = Topic("data.batch.quarantined.v1", partitions=3)

    stream: str = Field(max_length=256)
    """As the rows named it; it may be no declared stream at all."""
    rows: int = Field(ge=1)
    reasons: dict[Reason, int]
    """Reason code to the number of rows refused for it."""

    @property
    def key(self) -> str:
        """The stream's name, as given."""
        return self.stream
