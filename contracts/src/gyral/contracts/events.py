"""The envelope every event shares: its topic, its key and where it came from."""

from abc import abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr


@dataclass(frozen=True, slots=True)
class Topic:
    """A Kafka topic as the provisioning job creates it."""

    name: str
    partitions: int = 3
    retention_hours: int = 720
    compacted: bool = False
    """A compacted topic holds the latest event of each key for ever; it is read from the
    beginning."""
    dead_letters: bool = True
    """Consumers park what they cannot handle on `<name>.dlq`."""

    @property
    def dead_letter_name(self) -> str:
        """Name of the topic that parked events of this one go to."""
        return f"{self.name}.dlq"


@dataclass(frozen=True, slots=True)
class Delivery:
    """How an event reached its reader: the CloudEvents attributes that are not its data."""

    event_id: str
    correlation_id: str
    causation_id: str | None = None
    traceparent: str | None = None
    time: datetime | None = None
    """Wall time of publication; it decides nothing."""


class Contract(BaseModel):
    """Data that crosses a service's edge: immutable, and tolerant of fields added later."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        json_schema_extra={"additionalProperties": False},
        ser_json_inf_nan="null",
        allow_inf_nan=False,
    )


class Event(Contract):
    """A past fact on a topic; its id, cause and trace travel beside it as a `Delivery`."""

    topic: ClassVar[Topic]

    _delivery: Delivery | None = PrivateAttr(default=None)

    @property
    @abstractmethod
    def key(self) -> str:
        """Id of the entity whose order matters; the Kafka key."""

    @property
    def delivery(self) -> Delivery:
        """How this event arrived.

        Raises:
            LookupError: it was made here and not delivered by a bus.
        """
        if self._delivery is None:
            raise LookupError(
                f"{type(self).__name__} was made here; expected one that a bus delivered"
            )
        return self._delivery

    def delivered(self, delivery: Delivery) -> Self:
        """Return this event as its reader sees it."""
        event = self.model_copy()
        event._delivery = delivery  # noqa: SLF001 - its own private attribute
        return event
