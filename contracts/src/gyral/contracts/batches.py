"""Batch records: many rows of one stream in one Kafka record, in line with single rows."""

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Self

from pydantic import Field

from gyral.contracts.data import RecordSubmitted
from gyral.contracts.events import Contract, Topic
from gyral.contracts.names import StreamName

MAX_BATCH_BYTES = 700_000
"""Longest value of a batch record: fits Kafka's own default limit, headers included."""
MAX_BATCH_ROWS = 10_000


BATCH_HEADERS = ("ce_stream", "ce_schemaversion", "ce_rows", "content-type")
"""What says how to read a batch's value, beside the headers of every CloudEvent."""


class BatchForm(StrEnum):
    """How a batch's value is written; the record's `content-type`."""

    NDJSON = "application/x-ndjson"
    ARROW = "application/vnd.apache.arrow.stream"

    @property
    def says(self) -> str:
        """What a value of this form is, for documents."""
        match self:
            case BatchForm.NDJSON:
                return "the rows' JSON objects, one a line, bytes as they came, no blank line."
            case BatchForm.ARROW:
                return (
                    "one Arrow IPC stream whose columns are declared fields of the stream; a"
                    " column may be missing where the field is nullable. Text is utf8 or"
                    " large_utf8, an integer any integer that fits int64, a number float32,"
                    " float64 or an integer, a boolean bool, a timestamp a timestamp with a"
                    " time zone, of any unit, or RFC 3339 text."
                )


class BatchSubmitted(Contract):
    """Upstream says: these rows of one stream happened. Nothing about them is checked yet.

    A record of `data.record.submitted.v1` beside those of one row, told by its `ce_type`. Its
    key is null; it lies in the partition of every row's key by Kafka's default partitioner,
    (murmur2(key as UTF-8) & 0x7fffffff) % partitions, so all forms of one key share one. A row
    is identified by (topic, partition, offset, its index within the batch, from 0).
    """

    topic: ClassVar[Topic] = RecordSubmitted.topic
    type: ClassVar[str] = "data.batch.submitted.v1"

    stream: StreamName
    schemaversion: int = Field(ge=1)
    rows: int = Field(ge=1, le=MAX_BATCH_ROWS)
    form: BatchForm

    @property
    def attributes(self) -> Mapping[str, str]:
        """The headers that say what the value is, beside CloudEvents' own."""
        values = (self.stream, str(self.schemaversion), str(self.rows), self.form.value)
        return dict(zip(BATCH_HEADERS, values, strict=True))

    @classmethod
    def described_by(cls, headers: Mapping[str, str]) -> Self:
        """Return what a record's headers say of its value.

        Raises:
            ValueError: one is missing or breaks the contract.
        """
        names = ("stream", "schemaversion", "rows", "form")
        told = [headers.get(header) for header in BATCH_HEADERS]
        return cls.model_validate(dict(zip(names, told, strict=True)))
