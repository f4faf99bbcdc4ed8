"""The forms in which rows may come, and what their bodies have become once they are read."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gyral.contracts.batches import BatchForm
from gyral.ingestion.domain import shown
from gyral.kit.refusals import Refusal

MAX_DOCUMENT_BYTES = 1 << 20
"""Longest body of a form that is parsed as one document, and so held many times over."""


class MediaType(StrEnum):
    """The forms in which rows may come."""

    NDJSON = "application/x-ndjson"
    JSON = "application/json"
    CLOUDEVENT = "application/cloudevents+json"
    CLOUDEVENTS = "application/cloudevents-batch+json"
    ARROW = "application/vnd.apache.arrow.stream"
    PARQUET = "application/vnd.apache.parquet"


@dataclass(frozen=True, slots=True)
class Value:
    """Rows of one partition, as one Kafka record carries them."""

    partition: int
    rows: int
    form: BatchForm
    content: bytes
    seal: bytes | None = None
    """Says that nothing personal is left in it; None where nothing ever was."""


class Rows(Protocol):
    """All rows of a request, checked at the door."""

    def __len__(self) -> int:
        """Count them."""

    def values(self, partitions: int) -> Iterator[Value]:
        """Yield them by partition, in pieces that a Kafka record can carry.

        Raises:
            Refusal: 413, one row alone is too long.
        """


def media_type(content_type: str | None) -> MediaType:
    """Return the form a Content-Type names.

    Raises:
        Refusal: 415, it is none of ours.
    """
    name = (content_type or "").partition(";")[0].strip().lower()
    try:
        return MediaType(name)
    except ValueError as error:
        known = ", ".join(MediaType)
        raise Refusal(
            415,
            "unsupported_media_type",
            f"Content-Type: expected one of {known}; found {shown(name)}",
        ) from error


def too_many_rows(max_rows: int) -> Refusal:
    """Return the refusal of a request with more rows than one may have."""
    return Refusal(
        413,
        "too_many_rows",
        f"expected at most {max_rows} rows; found more: send them in parts",
    )


def too_long_a_row(place: str, max_bytes: int) -> Refusal:
    """Return the refusal of a row that no Kafka record of ours can carry."""
    message = f"{place}: expected a row of at most {max_bytes} bytes; found more"
    return Refusal(413, "row_too_large", message, field=place)


def no_rows() -> Refusal:
    """Return the refusal of a request without rows."""
    return Refusal(422, "empty", "body: expected at least one row; found none")
