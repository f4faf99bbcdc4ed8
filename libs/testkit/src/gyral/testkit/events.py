"""Events as tests need them: delivered, and on topics of their own."""

import uuid
from datetime import UTC, datetime
from typing import TypeVar, cast

from aiokafka import AIOKafkaProducer

from gyral.contracts.events import Delivery, Event, Topic
from gyral.kit import cloudevents

E = TypeVar("E", bound=Event)
MOMENT = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
"""A time for tests that need one and do not care which."""


def a_delivery(event_id: str | None = None, **attributes: str | None) -> Delivery:
    """Return a delivery with a fresh id, or the one given."""
    given = event_id or str(uuid.uuid4())
    return Delivery(
        event_id=given,
        correlation_id=attributes.get("correlation_id") or given,
        causation_id=attributes.get("causation_id"),
        traceparent=attributes.get("traceparent"),
        time=MOMENT,
    )


def delivered(event: E, event_id: str | None = None) -> E:
    """Return an event as a bus would hand it over."""
    return event.delivered(a_delivery(event_id))


def on_topic(event_type: type[E], topic: Topic) -> type[E]:
    """Return the same event type on another topic, so that tests on one broker do not meet."""
    return cast(
        "type[E]",
        type(event_type.__name__, (event_type,), {"topic": topic, "__module__": __name__}),
    )


async def send(
    producer: AIOKafkaProducer, event: Event, *, partition: int | None = None
) -> str:
    """Send an event as a service would and return its id."""
    delivery = event.delivery if _has_delivery(event) else a_delivery()
    encoded = cloudevents.encode(event, delivery, source="/test")
    await producer.send_and_wait(
        encoded.topic,
        encoded.value,
        key=encoded.key,
        headers=encoded.headers,
        partition=partition,
    )
    return delivery.event_id


def _has_delivery(event: Event) -> bool:
    try:
        return bool(event.delivery)
    except LookupError:
        return False
