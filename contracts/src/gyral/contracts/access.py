"""Who may call: API keys as the services that check them see them."""

from enum import StrEnum
from typing import ClassVar

from pydantic import AwareDatetime, Field

from gyral.contracts.events import Event, Topic
from gyral.contracts.names import ModelName, Sha256, Uuid


class Scope(StrEnum):
    """What a key may do; `admin` implies the others."""

    ADMIN = "admin"
    OPERATE = "operate"
    INGEST = "ingest"
    INFER = "infer"
    READ = "read"


class AccessKeyChanged(Event):
    """A key was issued, changed or revoked; only its digest travels."""

    topic: ClassVar[Topic] = Topic(
        "access.key.changed.v1", partitions=1, compacted=True, dead_letters=False
    )

    key_id: Uuid
    name: str = Field(min_length=1, max_length=100)
    generation: int = Field(default=1, ge=1)
    sha256: Sha256
    scopes: frozenset[Scope]
    models: frozenset[ModelName] | None = Field(default=None, min_length=1, max_length=1000)
    """The models that it may ask; None: every one."""
    expires_at: AwareDatetime | None = None
    revoked: bool = False

    @property
    def key(self) -> str:
        """The key's id."""
        return self.key_id
