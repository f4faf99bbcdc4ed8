"""Dead letters: the original bytes and headers, and why nobody could handle them."""

from enum import StrEnum

from gyral.contracts.events import Topic
from gyral.kit import cloudevents, outbox


class DeadLetterReason(StrEnum):
    """Why an event was parked."""

    MALFORMED = "malformed"
    """Its bytes break the contract."""
    PERMANENT = "permanent"
    """The handler raised PermanentError."""
    BUG = "bug"
    """The handler raised anything else, again and again."""


def dead_letter(
    record: cloudevents.Record,
    topic: Topic,
    *,
    service: str,
    reason: DeadLetterReason,
    error: BaseException,
    attempts: int,
) -> outbox.Message:
    """Return the message that parks a record: bytes and headers untouched, reason beside."""
    why = {
        "dlq_reason": reason.value,
        "dlq_error": f"{type(error).__name__}: {error}"[:1000],
        "dlq_consumer": service,
        "dlq_attempts": str(attempts),
        "dlq_topic": record.topic,
        "dlq_partition": str(record.partition),
        "dlq_offset": str(record.offset),
    }
    return outbox.Message(
        event_id=f"dlq/{service}/{cloudevents.place(record)}",
        topic=topic.dead_letter_name,
        key=record.key,
        headers=[
            *record.headers,
            *((name, value.encode("utf-8", "replace")) for name, value in why.items()),
        ],
        value=record.value,
    )
