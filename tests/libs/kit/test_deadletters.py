"""Dead letters: put back with their own id and bytes, and handled once, whatever happens."""

import asyncio
import base64
import os
import signal
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import asyncpg
import httpx
import pytest

from gyral.kit import cloudevents, deadletter_api, letterbox
from gyral.kit.bus import Bus
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.kit.letterbox import Chosen, Letterbox, LetterTx, PutBack, forget_letters
from gyral.kit.outbox import MOST_RECORD_BYTES, Relay
from gyral.kit.producer import open_producer
from gyral.kit.reactions import LineStopped
from gyral.kit.tx import PermanentError, begin, forget_claims
from gyral.testkit.events import delivered, send
from gyral.testkit.suites import Happened
from gyral.testkit.waiting import until
from tests.libs.kit.effects import Effects
from tests.libs.kit.line import SERVICE, TOPIC, Line, Lying, an_order, lying
from tests.libs.kit.operators import operators
from tests.libs.kit.reading import consume, headers_of

pytestmark = pytest.mark.live


@pytest.fixture
async def line(pool):
    await pool.execute("CREATE TABLE effect (seq bigserial, thing text, number integer)")
    return Line(pool, Effects(pool, SERVICE))


async def parked(line, record):
    line.effects.mishaps = {7: ValueError("a bug\0 with \udcff")}
    await line.come(record)
    line.effects.mishaps = {}
    [letter] = await line.box().page(Chosen(), state="parked", after=0, limit=100)
    return letter


async def test_a_replayed_event_keeps_its_id_key_and_bytes_and_has_one_effect(line):
    record = lying(7)
    letter = await parked(line, record)
    assert await line.effects.done() == []
    done = await line.put_back(ids=[letter.id])
    assert done == PutBack((str(letter.id),))
    [copy] = await line.sent()
    assert (copy.key, copy.value) == (record.key, record.value)
    assert copy.headers[: len(record.headers)] == record.headers
    assert cloudevents.identity(copy) == "e-1"
    for again in (copy, replace(copy, offset=999), record):
        await line.come(again)
    assert await line.effects.done() == [("a", 7)]
    assert await line.letters() == [("e-1", "bug", "replayed")]
    assert await line.audit() == [
        ("ann key-1", "mended in 1.4.2", "dead_letter", [str(letter.id)])
    ]


async def test_a_line_that_was_stopped_stays_so_however_often_its_service_is_started(line):
    line.breaker = 3
    line.effects.mishaps = {7: ValueError("a bug")}
    first, second, third, fourth = (
        replace(lying(7, event_id=f"e-{place}"), offset=place) for place in range(4)
    )
    await line.come(first)
    await line.come(second)
    for _ in range(3):
        with pytest.raises(LineStopped, match="3 events failed in a row"):
            await line.come(third)
        await line.come(first)  # parked before: to pass it by is not to handle it
    assert len(await line.letters()) == 2
    line.effects.mishaps = {}
    await line.come(third)
    line.effects.mishaps = {7: ValueError("another bug")}
    await line.come(fourth)
    assert len(await line.letters()) == 3


async def test_letters_that_were_put_back_stop_no_line(line):
    line.breaker = 2
    letter = await parked(line, lying(7))
    await line.put_back(ids=[letter.id])
    line.effects.mishaps = {8: ValueError("another bug")}
    await line.come(replace(lying(8, event_id="e-2"), offset=2))
    assert [state for _, _, state in await line.letters()] == ["replayed", "parked"]


async def test_replaying_again_does_nothing(line):
    letter = await parked(line, lying(7))
    order = an_order()
    first = await line.put_back(order, topic=TOPIC)
    await line.come((await line.sent())[0])
    assert await line.put_back(order, topic=TOPIC) == first
    assert await line.put_back(ids=[letter.id]) == PutBack()
    assert await line.sent() == []
    assert len(await line.audit()) == 1


async def test_of_many_orders_at_once_one_puts_a_letter_back(line):
    await parked(line, lying(7))
    done = await asyncio.gather(*(line.put_back(reason="bug") for _ in range(6)))
    assert sum(len(each.replayed) for each in done) == 1
    assert len(await line.sent()) == 1


async def test_a_replay_that_fails_is_one_more_letter_however_often_it_comes(line):
    record = lying(7)
    first = await parked(line, record)
    await line.put_back(ids=[first.id])
    [copy] = await line.sent()
    second = await parked(line, copy)
    line.effects.mishaps = {7: ValueError("still")}
    await line.come(replace(copy, offset=555))
    await line.come(record)
    assert await line.letters() == [("e-1", "bug", "replayed"), ("e-1", "bug", "parked")]
    line.effects.mishaps = {}
    await line.put_back(ids=[first.id, second.id])
    [copy] = await line.sent()
    assert [name for name, _ in copy.headers].count("gyral-replay") == 1
    await line.come(copy)
    assert await line.effects.done() == [("a", 7)]


async def test_an_event_that_was_handled_meanwhile_is_not_put_back(line):
    record = lying(7)
    letter = await parked(line, record)
    await forget_claims(line.pool, older_than_days=-1)
    await line.come(record)
    assert await line.put_back(ids=[letter.id]) == PutBack((), (str(letter.id),))
    assert await line.sent() == []
    assert await line.effects.done() == [("a", 7)]
    assert await line.letters() == [("e-1", "bug", "handled")]


async def test_an_event_without_an_id_is_known_by_where_it_lay_first(line):
    record = Lying(b'{"thing": "a", "number": 7}', offset=31)
    letter = await parked(line, record)
    await line.put_back(ids=[letter.id])
    [copy] = await line.sent()
    await parked(line, copy)
    await line.put_back(reason="bug")
    [copy] = await line.sent()
    for again in (copy, replace(copy, offset=999), record):
        await line.come(again)
    assert await line.effects.done() == [("a", 7)]


async def test_bytes_that_are_no_event_can_be_put_back_too(line):
    structured = (("content-type", b"application/cloudevents+json"),)
    await line.come(Lying(b"\xff{", structured, offset=5))
    await line.come(Lying(None, offset=6))
    done = await line.put_back(reason="malformed")
    assert len(done.replayed) == 2
    for copy in await line.sent():
        await line.come(copy)
        await line.come(replace(copy, offset=copy.offset + 500))
    states = [state for _, _, state in await line.letters()]
    assert states == ["replayed", "replayed", "parked", "parked"]


async def test_a_replay_is_for_the_service_that_parked_the_event(line):
    other = Line(line.pool, Effects(line.pool, "other"), "other")
    record = lying(7)
    await other.come(record)
    letter = await parked(line, record)
    await forget_claims(line.pool, older_than_days=-1)
    await line.put_back(ids=[letter.id])
    [copy] = await line.sent()
    await other.come(copy)
    assert other.effects.calls == [("a", 7)]
    await line.come(copy)
    assert await line.effects.count() == 2


async def test_the_log_of_replays_cannot_be_rewritten(line):
    await parked(line, lying(7))
    await line.put_back(topic=TOPIC)
    for statement in ("UPDATE replay SET actor = 'x'", "DELETE FROM replay", "TRUNCATE replay"):
        with pytest.raises(asyncpg.RaiseError, match="only grows"):
            await line.pool.execute(statement)


async def test_a_letter_too_large_for_its_topic_is_kept_whole_and_stays(line):
    record = replace(lying(7), value=b"x" * MOST_RECORD_BYTES)
    await line.come(record)
    [copy] = await line.sent(f"{TOPIC}.dlq")
    assert copy.value is None
    assert headers_of(copy)["dlq_value"] == "left out"
    [letter] = await line.box().page(Chosen(), state=None, after=0, limit=10)
    _, kept = await line.box().find(letter.id)
    assert kept.value == record.value
    assert await line.put_back(ids=[letter.id]) == PutBack()


async def test_a_letter_is_read_by_its_columns_names(line, monkeypatch):
    letter = await parked(line, lying(7))
    within = letterbox._COLUMNS.replace("value), 0)", "value)| 0)")  # noqa: SLF001
    columns = [each.strip().replace("|", ",") for each in within.split(",")]
    monkeypatch.setattr(letterbox, "_COLUMNS", ", ".join(reversed(columns)))
    assert await line.box().page(Chosen(), state=None, after=0, limit=10) == [letter]


async def test_letters_are_forgotten_when_their_topic_has_forgotten_them(line):
    await parked(line, lying(7))
    await forget_letters(line.pool)
    assert len(await line.letters()) == 1
    await forget_letters(line.pool, older_than_days=-1)
    assert await line.letters() == []


async def test_over_kafka_a_parked_event_is_handled_after_all(line, kafka_brokers, topic, pool):
    event_type = type("Happened", (Happened,), {"topic": topic, "__module__": __name__})
    effects = Effects(pool, topic.name)
    effects.mishaps = {1: PermanentError("no such model")}
    bus = Bus(kafka_brokers, service=topic.name, pool=pool, instance_id="one")
    bus.on(event_type, effects.handle)
    relay = Relay(pool, kafka_brokers, poll_s=0.2)
    for part in (relay, bus):
        await part.start()
    event = delivered(event_type(thing="a", number=1))
    async with open_producer(kafka_brokers) as producer:
        await send(producer, event)
    [lies] = await consume(kafka_brokers, topic.dead_letter_name, 1)
    effects.mishaps = {}
    box = Letterbox(pool, begin(pool, LetterTx, service=topic.name))
    chosen = Chosen(ids=[uuid.UUID(headers_of(lies)["dlq_id"])])
    _, done = await box.put_back(chosen, an_order())
    assert len(done.replayed) == 1

    async def handled():
        return await effects.done() == [("a", 1)]

    await until(handled)
    first, again = await consume(kafka_brokers, topic.name, 2)
    assert (first.partition, first.key, first.value) == (
        again.partition,
        again.key,
        again.value,
    )
    assert headers_of(again)["ce_id"] == event.delivery.event_id
    for part in (bus, relay):
        await part.stop()


@pytest.mark.timeout(180)
async def test_a_replay_survives_a_kill_at_every_line(
    line, postgres_dsn, kafka_brokers, new_topic
):
    topic = await new_topic()
    script = Path(__file__).with_name("replayer.py")

    async def run(point):
        return await asyncio.create_subprocess_exec(
            *(sys.executable, script, point, kafka_brokers, postgres_dsn, topic.name),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    for point in ("parking", "replaying", "replayed", "before_send", "after_send", "handling"):
        victim = await run(point)
        async with asyncio.timeout(30):
            assert await victim.wait() == -signal.SIGKILL, point
    survivor = await run("never")
    async with asyncio.timeout(30):
        assert await survivor.wait() == 0
    assert await line.effects.done() == [("a", 7), ("a", 8)]
    assert len(await line.audit()) == 1


@pytest.fixture
async def client(line):
    routes = deadletter_api.routes(line.pool, SERVICE)
    api = create_api(SERVICE, [routes], keys=await operators(), health=Health())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(api),
        base_url="http://kit",
        headers={"authorization": "Bearer op"},
    ) as made:
        yield made


async def test_letters_are_listed_shown_and_put_back_over_http(line, client):
    letter = await parked(line, lying(7))
    [listed] = (await client.get("/v1/dead-letters", params={"topic": TOPIC})).json()
    assert (listed["id"], listed["reason"], listed["state"]) == (
        str(letter.id),
        "bug",
        "parked",
    )
    shown = (await client.get(f"/v1/dead-letters/{letter.id}")).json()
    assert base64.b64decode(shown["value_base64"]) == lying(7).value
    assert {each["name"] for each in shown["headers"]} >= {"ce_id", "ce_type"}
    body = {"reason": "bug", "because": "mended"}
    for _ in range(2):
        answer = await client.post(
            "/v1/dead-letters/replay", json=body, headers={"idempotency-key": "once"}
        )
        assert (answer.status_code, answer.json()["replayed"]) == (202, [str(letter.id)])
    [(actor, because, _, _)] = await line.audit()
    assert actor.startswith("op ")
    assert because == "mended"
    assert (await client.get("/v1/dead-letters", params={"state": "parked"})).json() == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"because": "x"}, "body"),
        ({"topic": TOPIC}, "because"),
        ({"topic": TOPIC, "because": "  "}, "because"),
        ({"topic": TOPIC, "because": "a\0b"}, "because"),
        ({"ids": [], "because": "x"}, "ids"),
        ({"ids": ["1"], "because": "x"}, "ids.0"),
        ({"reason": "boredom", "because": "x"}, "reason"),
    ],
)
async def test_an_order_that_is_unclear_is_refused(client, body, field):
    answer = await client.post("/v1/dead-letters/replay", json=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)


async def test_only_an_operator_puts_letters_back_and_what_is_not_there_is_404(client):
    reader = {"authorization": "Bearer reader"}
    body = {"topic": TOPIC, "because": "x"}
    answer = await client.post("/v1/dead-letters/replay", json=body, headers=reader)
    assert answer.status_code == 403
    assert (await client.get("/v1/dead-letters", headers=reader)).status_code == 200
    assert (await client.get(f"/v1/dead-letters/{uuid.uuid4()}")).status_code == 404
