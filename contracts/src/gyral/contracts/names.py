"""The constrained names, ids and references that events and specs are made of."""

from typing import Annotated

from pydantic import AwareDatetime, Field, StringConstraints

from gyral.contracts.events import Contract

_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
StreamName = Annotated[str, StringConstraints(pattern=_NAME)]
ModelName = Annotated[str, StringConstraints(pattern=_NAME)]
FieldName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
Uuid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ObjectKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,511}$")]
ContentDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""Sum modulo 2^128 of the digests of a table's rows."""
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500)]
"""Text for people; hostile wherever it is shown."""
Version = Annotated[int, Field(ge=1)]
"""A model's version: 1, 2, 3 in the order of registration."""
MicrosUtc = Annotated[int, Field(ge=0, lt=2**62)]
"""Microseconds since 1970-01-01 UTC, as columnar payloads carry time."""


class BlobRef(Contract):
    """Bytes in the object store, fixed by their digest."""

    key: ObjectKey
    sha256: Sha256
    size_bytes: int = Field(ge=0)


class DatasetPin(Contract):
    """One immutable state of a stream's table."""

    stream: StreamName
    version: int = Field(ge=0)
    watermark: AwareDatetime
    content: ContentDigest | None = None
    """What its rows hold; None where it was committed before digests were kept."""
    schema_version: int | None = Field(default=None, ge=1)
    """Newest generation of the stream that a row of it was judged by."""
