"""Pins: made of the route, kept on disk, above whatever Kafka brings until they are adopted."""

import asyncio
import threading
import time
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
import pytest
from aiokafka import AIOKafkaConsumer

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.contracts.deployment import RoutePinned
from gyral.gateway.api.pins import Pinning, create_pin_router
from gyral.gateway.domain.pins import (
    CLAIMED_EPOCHS,
    NoPreviousError,
    Pins,
    event_id,
    pin,
    previous,
)
from gyral.gateway.domain.routing import RouteTable
from gyral.gateway.jobs import Announcer
from gyral.gateway.store.pins import PinFiles
from gyral.kit import cloudevents
from gyral.kit.access import KeyRing
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.testkit.keys import an_access_key
from gyral.testkit.processes import free_port
from gyral.testkit.projections import MemoryProjection

from .conftest import ROWS, infer_body
from .test_domain import a_route

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PIN = "9d3c2a8e-51f6-4d1c-8a70-3f0f6f0f2b11"
HOSTILE = "\x1b[2J<script>\u2028'; DROP TABLE route; --"


def a_pin(route, *, pin_id=PIN, reason="too high"):
    return pin(route, pin_id=pin_id, actor="ann", reason=reason, now=NOW)


@pytest.mark.parametrize(
    ("weights", "shadows"),
    [({1: 0, 2: 100}, ()), ({1: 75, 2: 25}, ()), ({1: 25, 2: 75}, ()), ({1: 100, 2: 0}, (2,))],
)
def test_the_previous_champion_answers_alone_far_beyond_the_routes_epoch(weights, shadows):
    made = a_pin(a_route(weights, shadows=shadows, epoch=7))
    [share] = made.route.shares
    assert (share.version, share.weight) == (1, 100)
    assert made.route.epoch == 7 + CLAIMED_EPOCHS


def test_a_version_that_is_alone_leaves_nobody_to_answer():
    with pytest.raises(NoPreviousError, match="found version 3 alone at epoch 1"):
        previous(a_route({3: 100}))


def test_a_pin_is_lifted_by_an_epoch_beyond_its_own_and_by_no_other():
    pins, made = Pins(), a_pin(a_route({1: 0, 2: 100}))
    pins.put(made)
    for epoch in (1, 2, made.route.epoch):
        assert pins.lifted_by("m", a_route({2: 100}, epoch=epoch)) is None
    assert pins.lifted_by("m", None) is None
    assert pins.get("m") == made
    assert pins.lifted_by("m", a_route({1: 100}, epoch=made.route.epoch + 1)) == made
    assert pins.get("m") is None


def test_the_later_pin_of_a_model_holds_and_the_other_is_given_back():
    pins, route = Pins(), a_route({1: 0, 2: 100}, epoch=5)
    early = a_pin(route)
    late = a_pin(route.model_copy(update={"epoch": 8}), pin_id=str(uuid.uuid4()))
    assert pins.put(early) is None
    assert pins.put(early) is None
    assert pins.put(late) == early
    assert pins.put(early) == early
    assert pins.get("m") == late


def test_one_order_at_two_epochs_or_about_two_models_is_told_under_an_id_each():
    route = a_route({1: 0, 2: 100}, epoch=5)
    others = [route.model_copy(update=each) for each in ({"epoch": 8}, {"model": "n"})]
    ids = {event_id(a_pin(each)) for each in (route, *others)}
    assert len(ids) == 3
    assert event_id(a_pin(route)) == event_id(a_pin(route, reason="again"))
    assert all(str(uuid.UUID(each)) == each for each in ids)


def test_one_order_about_two_models_leaves_two_files(tmp_path):
    files, route = PinFiles(tmp_path), a_route({1: 0, 2: 100})
    both = [a_pin(route), a_pin(route.model_copy(update={"model": "n"}))]
    for each in both:
        files.keep(each)
    assert files.load() == both
    files.forget(both[0])
    assert files.load() == both[1:]


def test_what_the_disk_does_not_give_hides_no_other_pin(tmp_path):
    files, made = PinFiles(tmp_path), a_pin(a_route({1: 0, 2: 100}))
    (tmp_path / "a.json").mkdir()
    files.keep(made)
    assert files.load() == [made]


def test_pins_survive_on_disk_with_hostile_reasons_and_a_spoiled_file_hides_no_other(tmp_path):
    files = PinFiles(tmp_path / "pins")
    assert files.load() == []
    later = a_pin(a_route({1: 0, 2: 100}, epoch=9), pin_id=str(uuid.uuid4()))
    first = a_pin(a_route({1: 0, 2: 100}, epoch=2), reason=HOSTILE)
    files.keep(later)
    files.keep(first)
    (tmp_path / "pins" / "other.json").write_bytes(b"{")
    assert [each.reason for each in files.load()] == [HOSTILE, "too high"]
    files.forget(first)
    files.forget(first)
    assert files.load() == [later]


@asynccontextmanager
async def calling(folder, *routes, scope=Scope.OPERATE, starting=None):
    keys = MemoryProjection(AccessKeyChanged)
    ring, table, pins = KeyRing(keys), RouteTable(), Pins()
    key, issued = an_access_key(scope, name="ann")
    await keys.put(issued)
    for route in routes:
        table.follow(route.model, route)

    def take_effect(made):
        pins.put(made)
        table.follow(made.key, made.route)

    pinning = Pinning(
        table, pins, PinFiles(folder), [take_effect], lambda: starting, lambda: NOW
    )
    app = create_api(
        "gateway", [create_pin_router(pinning)], keys=ring, health=Health(started=True)
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://gateway",
        headers={"authorization": f"Bearer {key}"},
    ) as client:
        yield client, table


def asked(version=1, **more):
    return {"pin_id": PIN, "version": version, "reason": "too high", **more}


async def test_a_pin_says_what_it_would_do_does_it_once_and_says_by_whom(tmp_path):
    async with calling(tmp_path, a_route({1: 0, 2: 100}, epoch=4)) as (client, table):
        would = (await client.get("/v1/models/m/pin")).json()
        assert (would["version"], would["instead_of"], would["epoch"]) == (1, 2, 4)
        done = await client.post("/v1/models/m/pin", json=asked(reason=HOSTILE))
        assert done.status_code == 200, done.text
        again = await client.post(
            "/v1/models/m/pin", json=asked(pin_id=str(uuid.uuid4()), reason="again")
        )
        assert again.json() == done.json() == (await client.get("/v1/models/m/pin")).json()
        plan = table.get("m")
    assert (done.json()["actor"], done.json()["reason"]) == ("ann", HOSTILE)
    assert [share.version for share in plan.live] == [1]
    assert len(list(tmp_path.glob("*.json"))) == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("m", asked(version=2), 409),
        ("m", asked(version=7), 409),
        ("nobody", asked(), 404),
        ("..%2f..%2fetc", asked(), 404),
        ("m", asked(reason=""), 422),
        ("m", asked(reason="x" * 501), 422),
        ("m", asked(pin_id="../../pin"), 422),
        ("m", asked(version=0), 422),
        ("m", asked(actor="root"), 422),
        ("m", asked(reason="x" * 5000), 413),
    ],
)
async def test_a_pin_of_another_thing_is_refused_and_leaves_nothing(
    tmp_path, path, body, status
):
    async with calling(tmp_path, a_route({1: 0, 2: 100})) as (client, table):
        refused = await client.post(f"/v1/models/{path}/pin", json=body)
        assert refused.status_code == status, refused.text
        assert table.get("m").route.epoch == 1
    assert list(tmp_path.iterdir()) == []


async def test_while_the_routes_are_read_a_pin_is_asked_for_again(tmp_path):
    async with calling(tmp_path, starting="not read yet") as (client, _):
        early = await client.post("/v1/models/m/pin", json=asked())
        assert (early.status_code, early.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("scope", [Scope.READ, Scope.INFER, Scope.INGEST])
async def test_only_operators_pin(tmp_path, scope):
    async with calling(tmp_path, a_route({1: 0, 2: 100}), scope=scope) as (client, _):
        assert (await client.post("/v1/models/m/pin", json=asked())).status_code == 403
        assert (await client.get("/v1/models/m/pin")).status_code == 403


async def test_a_disk_that_takes_no_pin_is_said_so_and_the_route_stays(tmp_path):
    (tmp_path / "pins").write_bytes(b"a file where the folder belongs")
    async with calling(tmp_path / "pins", a_route({1: 0, 2: 100})) as (client, table):
        assert (await client.post("/v1/models/m/pin", json=asked())).status_code == 503
        assert table.get("m").route.epoch == 1


@pytest.mark.live
def test_a_pin_set_without_kafka_outlives_a_kill_and_ends_with_its_adoption(served):
    """The gateway is told of it by nobody: no Kafka, no deployer, no Postgres."""
    served.follow(v1=0, v2=100)
    lone = served.another_gateway("pinned", f"127.0.0.1:{free_port()}")
    state = served.folder / "pinned"
    state.mkdir()
    for name in ("routes", "keys"):
        known = (served.folder / "gateway" / f"{name}.jsonl").read_bytes()
        (state / f"{name}.jsonl").write_bytes(known)
    lone.start(health="/v2/health/live")
    try:
        assert version_of(served, lone) == "2"
        made = pinned(served, lone)
        assert version_of(served, lone) == "1"
        lone.kill()
        lone.start(health="/v2/health/live")
        assert version_of(served, lone) == "1"
        assert pinned(served, lone)["pin_id"] == made["pin_id"]
    finally:
        lone.kill()
    heir = served.another_gateway("pinned", served.stack.kafka_brokers)
    heir.start(health="/v2/health/live")
    try:
        told = asyncio.run(announced(served, made["pin_id"]))
        assert (told.actor, told.reason) == ("test", HOSTILE)
        served.follow(v2=100)
        assert version_of(served, heir) == "1"
        served.epoch = told.route.epoch
        served.follow(v2=100)
        reached(served, heir, served.epoch)
        assert version_of(served, heir) == "2"
    finally:
        heir.stop()
        served.follow(v1=100)
    assert list((state / "pins").glob("*.json")) == []


class SpoiltOnce(PinFiles):
    """A folder whose disk refuses to remove the first time."""

    tries = 0
    removed = threading.Event()

    def forget(self, pinned):
        SpoiltOnce.tries += 1
        if SpoiltOnce.tries == 1:
            raise OSError(5, "Input/output error")
        super().forget(pinned)
        self.removed.set()


@pytest.mark.live
async def test_a_pin_that_the_disk_kept_is_removed_when_it_lets_go(stack, tmp_path):
    files, made = SpoiltOnce(tmp_path), a_pin(a_route({1: 0, 2: 100}), pin_id=str(uuid.uuid4()))
    files.keep(made)
    announcer = Announcer(stack.kafka_brokers, files)
    await announcer.start()
    try:
        announcer.forget(made)
        assert await asyncio.to_thread(files.removed.wait, 30)
        assert announcer.healthy() is None
    finally:
        await announcer.stop()
    assert (SpoiltOnce.tries, files.load()) == (2, [])


def version_of(served, gateway):
    late = time.monotonic() + 30
    while (answer := served.infer(infer_body(ROWS), gateway=gateway)).status_code == 503:
        assert time.monotonic() < late, gateway.tail()
    assert answer.status_code == 200, answer.text
    return answer.json()["model_version"]


def pinned(served, gateway):
    answer = httpx.post(
        f"{gateway.url}/v1/models/{served.model}/pin",
        json=asked(pin_id=str(uuid.uuid4()), reason=HOSTILE),
        headers={"authorization": f"Bearer {served.operator}"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def reached(served, gateway, epoch):
    answer = httpx.get(
        f"{gateway.url}/v1/models/{served.model}/route",
        params={"epoch": epoch, "wait_s": 20},
        headers={"authorization": f"Bearer {served.reader}"},
        timeout=30,
    )
    assert answer.json()["epoch"] == epoch, answer.text


async def announced(served, pin_id):
    consumer = AIOKafkaConsumer(
        RoutePinned.topic.name,
        bootstrap_servers=served.stack.kafka_brokers,
        auto_offset_reset="earliest",
    )
    async with consumer, asyncio.timeout(30):
        async for record in consumer:
            event = cloudevents.parse(record, RoutePinned)
            if event.pin_id == pin_id:
                assert event.delivery.event_id == event_id(event)
                return event
    raise AssertionError("the topic ended")
