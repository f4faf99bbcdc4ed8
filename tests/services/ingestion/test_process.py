"""The door end to end: what is answered 202 is in Kafka, and nothing hostile gets a 5xx."""

import asyncio
import gzip
import zlib
from operator import itemgetter

import orjson
import pytest
from backports import zstd

from gyral.contracts.batches import BatchForm
from gyral.ingestion.engine.forms import Value
from gyral.ingestion.engine.log import LogAwayError, RecordLog, Submission
from gyral.ingestion.engine.metrics import metrics
from tests.services.ingestion.conftest import READER

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]
AT = "2013-01-01T05:15:00Z"


def line(key, at=AT, **values):
    return orjson.dumps({"id": key, "at": at, **values})


def event(data, **attributes):
    return {
        "specversion": "1.0",
        "id": "1",
        "source": "/t",
        "type": "t",
        "data": data,
        **attributes,
    }


async def test_accepted_rows_are_in_kafka_as_they_came(door):
    other = b'{"id": "b","at":"%b"}' % AT.encode()
    answer = await door.post(b"\n".join([line("a", x=1), b"", other + b"  "]))
    assert answer.status_code == 202
    ids = answer.json()["ids"]
    assert (ids["first"][-2:], ids["last"][-2:]) == ("-1", "-2")
    rows = await door.rows()
    assert sorted(rows, key=itemgetter("id")) == [
        {"id": "a", "at": AT, "x": 1},
        {"id": "b", "at": AT},
    ]
    values = [record.value for found in (await door.records()).values() for record in found]
    assert sorted(line for value in values for line in value.split(b"\n")) == sorted(
        [line("a", x=1), other]
    )


async def test_many_rows_of_one_key_keep_their_order_through_several_records(door):
    padding = "p" * 2000
    body = b"\n".join(line(f"k{n % 4}", x=n, s=padding) for n in range(900))
    assert (await door.post(gzip.compress(body), content_encoding="gzip")).status_code == 202
    found = await door.records()
    assert max(len(records) for records in found.values()) > 1
    rows = await door.rows()
    assert len(rows) == 900
    for key in range(4):
        numbers = [row["x"] for row in rows if row["id"] == f"k{key}"]
        assert numbers == sorted(numbers)


async def test_a_row_that_no_record_can_carry_is_refused(door):
    answer = await door.post(line("a") + b"\n" + line("b", s="p" * 700_001))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "row_too_large")
    assert answer.json()["error"]["field"] == "line 2"
    assert await door.records() == {}


async def test_cloudevents_and_single_records_come_in_too(door):
    single = orjson.dumps(event({"id": "c", "at": AT}))
    batch = orjson.dumps([event({"id": "d", "at": AT}), event({"id": "e", "at": AT})])
    for body, kind in (
        (single, "application/cloudevents+json"),
        (batch, "application/cloudevents-batch+json; charset=utf-8"),
        (line("f"), "application/json"),
        (b'{"id":"g",\r\n"at":"%b"}\n' % AT.encode(), "application/json"),
    ):
        answer = await door.post(body, content_type=kind)
        assert answer.status_code == 202, answer.text
    for coding, pack in (("gzip", gzip.compress), ("zstd", zstd.compress)):
        answer = await door.post(pack(line(coding)), content_encoding=coding)
        assert answer.status_code == 202, answer.text
    keys = sorted(row["id"] for row in await door.rows())
    assert keys == ["c", "d", "e", "f", "g", "gzip", "zstd"]


async def test_the_same_key_and_body_have_one_effect_and_another_body_is_refused(door):
    answers = await asyncio.gather(
        *(door.post(line("a"), idempotency_key="k1") for _ in range(8))
    )
    won = [answer for answer in answers if answer.status_code == 202]
    assert won
    assert {answer.status_code for answer in answers} <= {202, 409}
    again = await door.post(line("a"), idempotency_key="k1")
    assert (again.status_code, again.json()) == (202, won[0].json())
    other = await door.post(line("b"), idempotency_key="k1")
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
    assert [row["id"] for row in await door.rows()] == ["a"]


async def test_a_marker_reaches_every_partition(door):
    answer = await door.mark(orjson.dumps({"event_time": "2013-01-02T00:00:00Z"}))
    assert answer.status_code == 202
    found = await door.records()
    assert sorted(found) == [0, 1, 2]
    for records in found.values():
        [marker] = records
        assert dict(marker.headers)["ce_type"] == b"data.watermark.advanced.v1"
    late = await door.mark(orjson.dumps({"event_time": "2999-01-01T00:00:00Z"}))
    assert (late.status_code, late.json()["error"]["field"]) == (422, "event_time")


async def test_a_stream_nobody_declared_and_keys_without_the_scope_are_refused(door):
    unknown = await door.post(line("a"), stream="nobody")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_stream")
    without = await door.post(line("a"), authorization=f"Bearer {READER}")
    assert without.status_code == 403
    assert (await door.post(line("a"), authorization="Bearer wrong")).status_code == 401


HOSTILE = {
    "empty": (b"", 422),
    "only blank lines": (b"\n \n", 422),
    "no JSON": (b"hello", 400),
    "second line broken": (line("a") + b"\n{", 400),
    "NaN": (b'{"id":"a","at":"2013-01-01T00:00:00Z","x":NaN}', 400),
    "infinity": (b'{"id":"a","at":"2013-01-01T00:00:00Z","x":-Infinity}', 400),
    "1e999": (b'{"id":"a","at":"2013-01-01T00:00:00Z","x":1e999}', 400),
    "5,000 digits": (b'{"id":"a","x":' + b"9" * 5000 + b"}", 422),
    "deep nesting": (b"[" * 100_000, 400),
    "deep and closed": (b"[" * 100_000 + b"]" * 100_000, 400),
    "bad UTF-8": (b'{"id":"\xff"}', 400),
    "lone surrogate": (b'{"id":"\\ud800"}', 400),
    "UTF-16": ('{"id":"a"}'.encode("utf-16"), 400),
    "array row": (b"[1,2]", 422),
    "text row": (b'"a"', 422),
    "no key": (b'{"at":"2013-01-01T00:00:00Z"}', 422),
    "no time": (b'{"id":"a"}', 422),
    "future": (b'{"id":"a","at":"2999-01-01T00:00:00Z"}', 422),
    "too many rows": (b"\n".join([line("a")] * 1001), 413),
    "body over the cap": (b" " * 1_000_001, 413),
}


async def test_hostile_bodies_get_a_4xx_that_says_where_and_nothing_is_stored(door):
    for name, (body, status) in HOSTILE.items():
        answer = await door.post(body)
        found = 400 <= answer.status_code < 500
        assert found, (name, answer.status_code, answer.text)
        if name != "5,000 digits":
            assert answer.status_code == status, (name, answer.text)
        error = answer.json()["error"]
        assert error["code"], name
        assert len(answer.content) < 1000, name
    broken = await door.post(line("a") + b"\n" + line("b", at="x"))
    assert broken.json()["error"]["field"] == "line 2: at"
    assert "expected an RFC 3339 time" in broken.json()["error"]["message"]
    assert await door.records() == {}


async def test_hostile_encodings_types_and_keys_get_a_4xx(door):
    bomb = zlib.compressobj(9, wbits=31)
    packed = bomb.compress(b" " * 50_000_000) + bomb.flush()
    for body, headers, status in (
        (packed, {"content_encoding": "gzip"}, 413),
        (b"\x1f\x8bnot gzip", {"content_encoding": "gzip"}, 400),
        (gzip.compress(line("a"))[:-5], {"content_encoding": "gzip"}, 400),
        (line("a"), {"content_encoding": "br"}, 415),
        (line("a"), {"content_encoding": "gzip, gzip"}, 415),
        (line("a"), {"content_type": "text/plain"}, 415),
        (line("a"), {"content_type": "multipart/form-data; boundary=x"}, 415),
        (line("a"), {"idempotency_key": "x" * 129}, 400),
        (line("a"), {"idempotency_key": "a b"}, 400),
        (b"{}", {"content_type": "application/cloudevents+json"}, 422),
        (b"{}", {"content_type": "application/cloudevents-batch+json"}, 422),
        (b"[[]]", {"content_type": "application/cloudevents-batch+json"}, 422),
    ):
        answer = await door.post(body, **headers)
        assert answer.status_code == status, (headers, answer.status_code, answer.text)
    for body in (b"", b"[]", b'{"event_time":5}', b'{"event_time":"x"}', b"\xff", b"{}"):
        assert 400 <= (await door.mark(body)).status_code < 500, body
    for name in ("a%2f..%2fb", "%00", "x" * 300, "A"):
        assert (await door.post(line("a"), stream=name)).status_code == 404, name
    assert await door.records() == {}


async def test_rows_that_kafka_does_not_acknowledge_are_not_taken():
    log = RecordLog("127.0.0.1:1", wait_s=0.5, metrics=metrics())
    with pytest.raises(LogAwayError):
        await log.append(Submission("s", 1, "seed", [Value(0, 1, BatchForm.NDJSON, b"{}")]))
    with pytest.raises(LogAwayError):
        await log.partitions()
    await log.stop()
