"""Dead letters: the original bytes and headers, and why nobody could handle them."""

import uuid
from dataclasses import dataclass
from enum import StrEnum

from gyral.contracts.events import Topic
from gyral.kit import cloudevents, outbox

REPLAY = "gyral-replay"
"""Header of a replayed event: `service/replay id`. Other consumers of the topic pass it by."""
_NAMESPACE = uuid.UUID("0c5a7c2e-3f1d-5a55-9c3b-6b1f5d0f9e21")


class DeadLetterReason(StrEnum):
    """Why an event was parked."""

    MALFORMED = "malformed"
    """Its bytes break the contract."""
    PERMANENT = "permanent"
    """The handler raised PermanentError."""
    BUG = "bug"
    """The handler raised anything else, again and again."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record nobody could handle, and why."""

    record: cloudevents.Record
    service: str
    reason: DeadLetterReason
    error: str
    attempts: int

    @property
    def name(self) -> str:
        """What it is called in the outbox: one a record and service."""
        return f"dlq/{self.service}/{cloudevents.place(self.record)}"

    @property
    def id(self) -> uuid.UUID:
        """Its id; parking the same record again gives the same."""
        return uuid.uuid5(_NAMESPACE, self.name)

    def message(self, topic: Topic) -> outbox.Message:
        """Return what goes to the dead letters: bytes and headers untouched, reason beside.

        Bytes too many for a topic, with more headers and as we pack them, are left to the
        letter that the service keeps: the relay must never meet a record it cannot send.
        """
        record = self.record
        fits = cloudevents.size_bytes(record) <= outbox.MOST_RECORD_BYTES
        why = {
            "dlq_id": str(self.id),
            "dlq_reason": self.reason.value,
            "dlq_error": self.error,
            "dlq_consumer": self.service,
            "dlq_attempts": str(self.attempts),
            "dlq_topic": record.topic,
            "dlq_partition": str(record.partition),
            "dlq_offset": str(record.offset),
            "dlq_value": "whole" if fits else "left out",
        }
        return outbox.Message(
            event_id=self.name,
            topic=topic.dead_letter_name,
            key=record.key,
            headers=[
                *(record.headers if fits else ()),
                *((name, value.encode()) for name, value in why.items()),
            ],
            value=record.value if fits else None,
        )


def told(error: BaseException) -> str:
    """Return an error as headers, stores and terminals can hold it."""
    text = f"{type(error).__name__}: {error}"[:1000]
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def is_for(record: cloudevents.Record, service: str) -> bool:
    """Tell whether a consumer should look at a record: a replay is for whoever parked it.

    The others handled it when it first came, perhaps longer ago than their inbox remembers.
    """
    replay = cloudevents.header(record, REPLAY)
    return replay is None or replay.partition("/")[0] == service
