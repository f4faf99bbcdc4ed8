"""The quarantine: filtered, paged, exported, and put back once with an entry in the audit."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from importlib import resources

import httpx
import orjson
import pytest

from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.kit.outbox import MOST_RECORD_BYTES
from gyral.testkit.backends import migrated_pool
from gyral.validation.api import quarantine as api
from gyral.validation.domain.accounting import Place
from gyral.validation.domain.refusals import Reason
from gyral.validation.store import quarantine as store
from gyral.validation.store.quarantine import Chosen, State
from tests.libs.kit.operators import operators
from tests.services.validation.desk import TOPIC, Desk, an_order, refused

pytestmark = pytest.mark.live


@pytest.fixture
async def desk(postgres_dsn):
    migrations = resources.files("gyral.validation") / "migrations"
    async with migrated_pool(postgres_dsn, service="validation", migrations=migrations) as pool:
        yield Desk(pool)


async def test_a_row_goes_back_whole_to_its_partition_and_says_which_it_was(desk):
    [id_] = await desk.refuse(refused(4))
    assert await desk.put_back(stream="orders") == [id_]
    [(partition, key, value, headers)] = await desk.sent()
    assert (partition, key, value) == (1, b"k", b'{"n": 4}')
    assert headers == (("ce_id", b"e-4"), ("gyral-quarantine", str(id_).encode()))
    assert await desk.put_back(stream="orders") == []
    assert await desk.sent() == []
    assert await desk.audit() == [
        ("quarantine", "ann key-1", "the range was too narrow", [str(id_)])
    ]


async def test_a_row_that_lay_astray_goes_to_its_keys_partition(desk):
    await desk.refuse(refused(4, reason=Reason.WRONG_PARTITION))
    await desk.put_back(stream="orders")
    [(partition, key, _, _)] = await desk.sent()
    assert (partition, key) == (None, b"k")


async def test_an_order_repeated_is_answered_as_it_was(desk):
    first = await desk.refuse(refused(1))
    order = an_order()
    assert await desk.put_back(order, reason="range") == first
    await desk.refuse(refused(2))
    assert await desk.put_back(order, reason="range") == first
    assert len(await desk.sent()) == 1


async def test_of_many_orders_at_once_each_row_goes_back_with_one(desk):
    await desk.refuse(*(refused(offset) for offset in range(20)))
    done = await asyncio.gather(*(desk.put_back(stream="orders") for _ in range(5)))
    assert sorted(len(ids) for ids in done) == [0, 0, 0, 0, 20]
    assert len(await desk.sent()) == 20


async def test_two_copies_refused_alike_have_one_origin_and_go_back_as_one(desk):
    [origin] = await desk.refuse(refused(1))
    await desk.put_back(ids=[origin])
    [copy] = await desk.sent()
    twins = [await desk.refuse_again(offset, copy) for offset in (50, 51)]
    listed = await desk.found.page(Chosen(), after=origin, limit=10)
    assert [(row.id, row.origin) for row in listed] == [(id_, origin) for id_ in twins]
    assert await desk.put_back(ids=[twins[1]]) == [twins[1]]
    assert await desk.put_back(stream="orders") == []
    [(_, _, _, headers)] = await desk.sent()
    assert headers[1:] == (("gyral-quarantine", str(twins[1]).encode()),)


async def test_other_rows_that_claim_the_same_origin_are_rows_of_their_own(desk):
    forged = (("gyral-quarantine", b"1"),)
    ids = await desk.refuse(*(refused(offset, headers=forged) for offset in range(3)))
    second = refused(8, headers=forged, place=Place(TOPIC, 1, 8, row=1))
    ids += await desk.refuse(refused(8, headers=forged), second)
    assert await desk.put_back(ids=ids[:4]) == ids[:4]
    assert await desk.put_back(stream="orders") == ids[4:]
    assert len(await desk.sent()) == 5


@pytest.mark.parametrize(
    "header", [b"", b"x", b"-1", b"1" * 19, b"\xff\x00", b"1\n", b"9" * 100_000]
)
async def test_a_header_that_is_no_origin_is_none(desk, header):
    await desk.refuse(refused(1, headers=(("gyral-quarantine", header),)))
    [row] = await desk.found.page(Chosen(), after=0, limit=10)
    assert row.origin is None
    assert len(await desk.put_back(stream="orders")) == 1


async def test_rows_are_chosen_by_stream_reason_time_id_and_state(desk):
    ids = await desk.refuse(
        refused(1),
        refused(2, reason=Reason.TYPE),
        refused(3, stream="other"),
    )
    await desk.put_back(ids=[ids[0]])
    later = datetime.now(UTC) + timedelta(hours=1)
    for chosen, expected in (
        ({"stream": "orders"}, ids[:2]),
        ({"reason": "type"}, [ids[1]]),
        ({"since": later}, []),
        ({"since": later - timedelta(hours=2)}, ids),
        ({"ids": ids[1:]}, ids[1:]),
        ({"state": State.REPLAYED}, [ids[0]]),
        ({"state": State.HELD}, ids[1:]),
    ):
        page = await desk.found.page(Chosen(**chosen), after=0, limit=10)
        assert [row.id for row in page] == expected, chosen
    page = await desk.found.page(Chosen(), after=ids[0], limit=1)
    assert [row.id for row in page] == [ids[1]]


async def test_a_row_is_read_by_its_columns_names(desk, monkeypatch):
    [id_] = await desk.refuse(refused(1))
    listed = await desk.found.page(Chosen(), after=0, limit=10)
    columns = [each.strip() for each in store._COLUMNS.split(",")]  # noqa: SLF001
    monkeypatch.setattr(store, "_COLUMNS", ", ".join(reversed(columns)))
    assert await desk.found.page(Chosen(), after=0, limit=10) == listed
    assert listed[0].id == id_


async def test_a_page_of_the_export_has_a_bounded_number_of_bytes(desk):
    large = b"x" * (3 << 20)
    await desk.refuse(*(refused(offset, value=large) for offset in range(5)))
    found, after = [], 0
    while page := await desk.found.export(Chosen(), after=after, limit=1000):
        found.append(len(page))
        after = page[-1][0].id
    assert found == [2, 2, 1]


async def test_a_record_too_large_to_send_stays(desk):
    ids = await desk.refuse(refused(1, value=b"x" * MOST_RECORD_BYTES), refused(2))
    assert await desk.put_back(stream="orders") == ids[1:]


@pytest.fixture
async def client(desk):
    routes = api.routes(desk.found, desk.replay.run, desk.parking)
    transport = httpx.ASGITransport(
        create_api("validation", [routes], keys=await operators(), health=Health())
    )
    async with httpx.AsyncClient(
        transport=transport, base_url="http://v", headers={"authorization": "Bearer op"}
    ) as made:
        yield made


async def test_rows_are_listed_shown_exported_and_put_back_over_http(desk, client):
    ids = await desk.refuse(refused(1), refused(2, value=b"\xff{"))
    listed = (await client.get("/v1/quarantine", params={"stream": "orders"})).json()
    assert [(row["id"], row["size_bytes"], row["origin"]) for row in listed] == [
        (ids[0], 8, None),
        (ids[1], 2, None),
    ]
    shown = (await client.get(f"/v1/quarantine/{ids[1]}")).json()
    assert base64.b64decode(shown["value_base64"]) == b"\xff{"
    assert [each["name"] for each in shown["headers"]] == ["ce_id"]
    exported = await client.get("/v1/quarantine/export", params={"reason": "range"})
    assert exported.headers["content-type"] == "application/x-ndjson"
    lines = [orjson.loads(line) for line in exported.text.splitlines()]
    assert [base64.b64decode(line["value_base64"]) for line in lines] == [b'{"n": 1}', b"\xff{"]
    body = {"stream": "orders", "because": "wider range in v3"}
    for _ in range(2):
        answer = await client.post(
            "/v1/quarantine/replay", json=body, headers={"idempotency-key": "a"}
        )
        assert (answer.status_code, answer.json()["ids"]) == (202, ids)
    [(_, actor, because, items)] = await desk.audit()
    assert actor.startswith("op ")
    assert (because, items) == ("wider range in v3", [str(id_) for id_ in ids])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"because": "x"}, "body"),
        ({"stream": "orders"}, "because"),
        ({"stream": "a\0b", "because": "x"}, "stream"),
        ({"ids": [0], "because": "x"}, "ids.0"),
        ({"ids": [], "because": "x"}, "ids"),
        ({"since": "2026-01-01T00:00:00", "because": "x"}, "since"),
    ],
)
async def test_an_order_that_is_unclear_is_refused(client, body, field):
    answer = await client.post("/v1/quarantine/replay", json=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)


async def test_only_an_operator_puts_rows_back_and_what_is_not_there_is_404(client):
    reader = {"authorization": "Bearer reader"}
    body = {"stream": "orders", "because": "x"}
    answer = await client.post("/v1/quarantine/replay", json=body, headers=reader)
    assert answer.status_code == 403
    assert (await client.get("/v1/quarantine/7")).status_code == 404
    for hostile in (
        "/x",
        "?stream=%00",
        "?since=x",
        "?since=0001-01-01T00:00:00%2B14:00",
        "?since=9999-12-31T23:59:59-14:00",
    ):
        assert (await client.get(f"/v1/quarantine{hostile}")).status_code == 422, hostile
