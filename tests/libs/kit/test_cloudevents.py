"""CloudEvents on Kafka: what is written is read back; what is broken is named."""

import base64
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.kit import cloudevents
from gyral.kit.cloudevents import MalformedEvent
from gyral.testkit.events import MOMENT, a_delivery
from gyral.testkit.suites import Happened


@dataclass
class Raw:
    """A record without Kafka."""

    value: bytes | None = b"{}"
    headers: Sequence[tuple[str, bytes | None]] = field(default_factory=list)
    key: bytes | None = b"a"
    topic: str = Happened.topic.name
    partition: int = 2
    offset: int = 7
    timestamp: int = 0


@given(time_us=st.integers(0, 4_000_000_000_000_000))
def test_a_time_is_written_to_the_microsecond(time_us):
    written = datetime.fromisoformat(cloudevents.time_text(time_us).decode())
    assert written == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)


PLACE = "test.thing.happened.v1/2/7"


def test_what_is_written_is_read_back():
    delivery = a_delivery(
        "e-1", correlation_id="c", causation_id="b", traceparent="00-ab-cd-01"
    )
    encoded = cloudevents.encode(Happened(thing="a", number=3), delivery, source="/test")
    event = cloudevents.parse(Raw(encoded.value, encoded.headers), Happened)
    assert (event.thing, event.number, event.delivery) == ("a", 3, delivery)
    assert dict(encoded.headers)["ce_time"] == MOMENT.isoformat().encode()


@pytest.mark.parametrize("binary", [False, True])
def test_structured_mode_is_read(binary):
    data = {"thing": "a", "number": 1}
    body = (
        {"data_base64": base64.b64encode(orjson.dumps(data)).decode()}
        if binary
        else {"data": data}
    )
    envelope = {
        "id": "e-1",
        "type": Happened.topic.name,
        "correlationid": "c",
        "time": MOMENT.isoformat(),
        **body,
    }
    headers = [("Content-Type", b"application/cloudevents+json")]
    event = cloudevents.parse(Raw(orjson.dumps(envelope), headers), Happened)
    assert (event.number, event.delivery.event_id, event.delivery.correlation_id) == (
        1,
        "e-1",
        "c",
    )
    assert event.delivery.time == MOMENT


def test_a_record_without_attributes_is_known_by_its_place():
    event = cloudevents.parse(Raw(b'{"thing": "a", "later": true}'), Happened)
    assert (event.delivery.event_id, event.delivery.correlation_id) == (PLACE, PLACE)


@pytest.mark.parametrize("hostile", [b"", b"x" * 300, b"a\x00b", b"a\x1b[2Jb", b"\xff\n"])
def test_an_id_that_could_do_harm_counts_as_none(hostile):
    assert cloudevents.read(Raw(headers=[("ce_id", hostile)])).delivery.event_id == PLACE


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (Raw(b"{}"), "thing: Field required"),
        (Raw(None), "Input should be an object"),
        (Raw(b'{"thing": 5}'), "thing: Input should be a valid string"),
        (
            Raw(headers=[("ce_type", b"other.v1")]),
            "type: expected test.thing.happened.v1; found 'other.v1'",
        ),
        (
            Raw(b"[]", [("content-type", b"application/cloudevents+json")]),
            "expected an object with a type",
        ),
        (Raw(b"{", [("content-type", b"application/cloudevents+json")]), "expected JSON"),
    ],
)
def test_what_is_no_event_is_named(raw, words):
    with pytest.raises(MalformedEvent, match=words):
        cloudevents.parse(raw, Happened)


@given(
    value=st.none() | st.binary(max_size=60),
    headers=st.lists(
        st.tuples(
            st.sampled_from(
                ["ce_id", "ce_time", "ce_type", "content-type", "traceparent", "x"]
            ),
            st.none() | st.binary(max_size=20) | st.just(b"application/cloudevents+json"),
        ),
        max_size=6,
    ),
)
def test_no_bytes_raise_anything_else(value, headers):
    with suppress(MalformedEvent):
        assert cloudevents.parse(Raw(value, headers), Happened).delivery.event_id
