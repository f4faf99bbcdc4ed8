"""What is refused of streams with personal fields: kept encrypted, and off the log."""

import base64
from dataclasses import replace
from importlib import resources

import httpx
import orjson
import pytest

from gyral.contracts.batches import BatchForm, BatchSubmitted
from gyral.kit import cloudevents
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.kit.personal import SEAL
from gyral.testkit.backends import migrated_pool
from gyral.validation.api import quarantine as api
from gyral.validation.domain.accounting import Protection
from gyral.validation.domain.refusals import Reason
from gyral.validation.engine.intake import Sorting
from gyral.validation.store.quarantine import Chosen
from tests.libs.kit.operators import operators
from tests.services.validation.conftest import declared, record, row
from tests.services.validation.desk import Desk, an_order, refused

ADA = "ada.lovelace@example.org"
FIELDS = {
    "flight_id": {"type": "string"},
    "at": {"type": "timestamp"},
    "who": {"type": "string", "personal": True},
    "delay": {"type": "number", "maximum": 2000, "nullable": True},
}


@pytest.fixture
async def desk(postgres_dsn):
    migrations = resources.files("gyral.validation") / "migrations"
    async with migrated_pool(postgres_dsn, service="validation", migrations=migrations) as pool:
        desk = Desk(pool)
        await desk.streams.put(declared("trips", fields=FIELDS, subject="who"))
        await desk.streams.put(declared("flights"))
        yield desk


def a_batch(desk, *rows, stream="trips", sealed=True, version=1, said=None):
    """Return a record of many rows, as the door writes them or as somebody else does."""
    value = b"\n".join(map(orjson.dumps, rows))
    told = BatchSubmitted(
        stream=stream, schemaversion=version, rows=said or len(rows), form=BatchForm.NDJSON
    )
    headers = dict(cloudevents.headers(told.type, "e-1", "/test"))
    headers |= {name: text.encode() for name, text in told.attributes.items()}
    pairs = tuple(headers.items())
    if sealed:
        pairs = desk.parking.sealed(pairs, value)
    made = record(value, 7)
    made.headers = pairs
    return made


def alone(stream, values, **envelope):
    told = {"stream": stream, "record_key": values.get("flight_id"), "values": values}
    return record(orjson.dumps(told | envelope), 8)


def sorted_of(desk, *records):
    sorting = Sorting(desk.parking.schemas)
    sorting.take(records)
    return sorting.found


def who(desk, text=ADA):
    return desk.parking.keys.pseudonym(text)


def test_only_what_the_door_sealed_is_taken(desk):
    good = row("a", who=who(desk))
    found = sorted_of(desk, a_batch(desk, good), a_batch(desk, good, sealed=False))
    assert len(found.groups["trips"]) == 1
    [wrong] = found.refused
    assert wrong.violation.reason is Reason.NOT_PSEUDONYMISED
    assert not wrong.vouched


@pytest.mark.parametrize("sealed", [True, False])
def test_clear_text_is_no_pseudonym_even_under_a_seal(desk, sealed):
    found = sorted_of(desk, a_batch(desk, row("a", who=ADA), sealed=sealed))
    assert not found.groups
    [wrong] = found.refused
    reason = Reason.PATTERN if sealed else Reason.NOT_PSEUDONYMISED
    assert wrong.violation.reason is reason


def test_a_seal_of_another_record_opens_nothing(desk):
    theirs = a_batch(desk, row("a", who=who(desk)))
    forged = a_batch(desk, row("b", who=ADA), sealed=False)
    forged.headers = (*forged.headers, (SEAL, dict(theirs.headers)[SEAL]))
    shifted = a_batch(desk, row("a", who=who(desk)))
    shifted.headers = (*shifted.headers, ("ce_stream", b"trips"))
    for one in (forged, shifted):
        [wrong] = sorted_of(desk, one).refused
        assert wrong.violation.reason is Reason.NOT_PSEUDONYMISED


def test_single_records_come_through_the_door_or_not_at_all(desk):
    found = sorted_of(desk, alone("trips", row("a", who=who(desk))), alone("flights", row("b")))
    assert list(found.groups) == ["flights"]
    [wrong] = found.refused
    assert wrong.violation.reason is Reason.NOT_PSEUDONYMISED
    assert (wrong.stream, wrong.record_key) == ("trips", "")


def test_rows_that_cannot_be_judged_yet_are_parked_one_by_one(desk):
    rows = [row("a", who=who(desk)), row("b", who=who(desk, "bob"))]
    found = sorted_of(desk, a_batch(desk, *rows, version=9))
    assert [one.violation.reason for one in found.refused] == [
        Reason.UNKNOWN_SCHEMA_VERSION
    ] * 2
    parked = desk.parking.parked(found.refused)
    assert [one.subject for one in parked] == [who(desk), who(desk, "bob")]
    assert [one.record_key for one in parked] == ["a", "b"]


@pytest.mark.parametrize(
    ("made", "subject", "protection"),
    [
        (lambda d: a_batch(d, row("a", who=who(d), delay=9e9)), True, Protection.PSEUDONYMISED),
        (lambda _: alone("trips", row("a", who=ADA)), True, Protection.CLEAR),
        (lambda _: alone("trips", row("a", who=ADA), record_key=7), True, Protection.CLEAR),
        (lambda d: a_batch(d, row("a", who=ADA), sealed=False), False, Protection.CLEAR),
        (lambda d: a_batch(d, row("a", who=ADA), said=2), False, Protection.CLEAR),
        (lambda _: alone("nobody-knows", row(ADA)), False, Protection.CLEAR),
        (lambda _: record(f'{{"who": "{ADA}"'.encode(), 3), False, Protection.CLEAR),
    ],
)
def test_what_may_name_somebody_is_encrypted_and_is_theirs_where_it_says(
    desk, made, subject, protection
):
    one = made(desk)
    refused_rows = sorted_of(desk, one).refused
    [parked] = desk.parking.parked(refused_rows)
    assert parked.protection is protection
    assert parked.subject == (who(desk) if subject else None)
    assert "lovelace" not in repr(parked)
    assert who(desk).encode() not in parked.value
    plain = desk.parking.plain(parked.stream, parked.place, parked.value)
    assert plain.value == refused_rows[0].value
    assert plain.headers == refused_rows[0].headers


def test_other_streams_are_kept_as_they_came(desk):
    rows = sorted_of(desk, alone("flights", row("a", delay=9e9))).refused
    assert list(desk.parking.parked(rows)) == rows


async def test_a_row_that_is_mended_goes_back_under_a_seal_of_its_own(desk):
    wrong = sorted_of(desk, a_batch(desk, row("a", who=who(desk), delay=9e9))).refused
    [id_] = await desk.refuse(*wrong)
    assert await desk.put_back(stream="trips") == [id_]
    [(_, _, value, headers)] = await desk.sent()
    again = record(value, 9)
    again.headers = headers
    wider = {**FIELDS, "delay": {"type": "number", "nullable": True}}
    await desk.streams.put(declared("trips", 2, fields=wider, subject="who"))
    found = sorted_of(desk, again)
    assert not found.refused
    assert found.groups["trips"].keys == ["a"]


async def test_what_names_somebody_is_never_put_back_on_the_log(desk):
    unsealed = sorted_of(desk, alone("trips", row("a", who=ADA))).refused
    later = sorted_of(desk, alone("hotels", row("b", who=ADA))).refused
    early = sorted_of(desk, alone("boats", row("c"))).refused
    await desk.refuse(
        *unsealed, *(_moved(one, 20 + at) for at, one in enumerate(later + early))
    )
    await desk.streams.put(declared("hotels", fields=FIELDS, subject="who"))
    await desk.streams.put(declared("boats"))
    assert len(await desk.put_back(since=None, reason="unknown_stream")) == 1
    assert await desk.put_back(an_order(), stream="trips") == []
    [(_, _, value, headers)] = await desk.sent()
    assert b'"boats"' in value
    assert SEAL not in dict(headers)


def _moved(one, offset):
    return replace(one, place=replace(one.place, offset=offset))


@pytest.fixture
async def client(desk):
    routes = api.routes(desk.found, desk.replay.run, desk.parking)
    ring = await operators()
    app = create_api("validation", [routes], keys=ring, health=Health())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://v",
        headers={"authorization": "Bearer op"},
    ) as made:
        yield made


async def test_an_operator_reads_what_a_reader_may_only_count(desk, client):
    wrong = sorted_of(desk, alone("trips", row("a", who=ADA))).refused
    ids = await desk.refuse(*wrong, refused(30, stream="flights"))
    shown = (await client.get(f"/v1/quarantine/{ids[0]}")).json()
    assert ADA.encode() in base64.b64decode(shown["value_base64"])
    exported = (await client.get("/v1/quarantine/export")).text.splitlines()
    assert len(exported) == 2
    reader = {"authorization": "Bearer reader"}
    listed = (await client.get("/v1/quarantine", headers=reader)).json()
    assert [one["protection"] for one in listed] == ["clear", None]
    assert "lovelace" not in str(listed)
    for path in (f"/{ids[0]}", "/export"):
        assert (await client.get(f"/v1/quarantine{path}", headers=reader)).status_code == 403
    for path in (f"/{ids[1]}", "/export?stream=flights"):
        assert (await client.get(f"/v1/quarantine{path}", headers=reader)).status_code == 200


async def test_no_text_of_the_tables_names_anybody(desk):
    wrong = sorted_of(desk, alone("trips", row(ADA, who=ADA))).refused
    await desk.refuse(*wrong)
    rows = await desk.found.page(Chosen(), after=0, limit=10)
    kept = await desk.pool.fetch("SELECT * FROM quarantine")
    assert "lovelace" not in repr(rows) + repr([dict(one) for one in kept])
