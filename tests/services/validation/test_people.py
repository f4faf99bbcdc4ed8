"""A stream of people end to end: nobody's name behind the door, and erased when asked."""

import secrets
import signal

import httpx
import pyarrow as pa
import pytest

from gyral.modelling.contents import Content
from gyral.testkit.processes import NotUpError
from gyral.testkit.waiting import until
from tests.services.ingestion.tables import arrow
from tests.services.validation.people import BEARER, FIELDS, KEYS, START, house, trip

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


@pytest.fixture
async def home(world, tmp_path):
    async with house(world, tmp_path) as made:
        yield made


def columns(*trips):
    times = pa.array([START] * len(trips), pa.timestamp("us", "UTC"))
    made = pa.table({name: [one.get(name) for one in trips] for name in FIELDS if name != "at"})
    return made.append_column("at", times)


async def test_a_name_is_nowhere_behind_the_door(home):
    home.judge().start()
    good = [trip(0, home.ada, mail=home.ada), trip(1, home.bob)]
    assert home.post(*good).status_code == 202
    assert home.post(*good, **{"idempotency-key": "again"}).status_code == 202
    body = arrow(columns(trip(2, home.ada, mail=home.ada), trip(3, home.bob, mail=None)))
    kind = "application/vnd.apache.arrow.stream"
    assert home.post(body=body, kind=kind).status_code == 202
    assert home.post(trip(4, home.ada, fare=9e9)).status_code == 202  # to be parked
    bad = home.post(trip(5, home.ada, mail=[home.ada]))
    assert (bad.status_code, home.ada in bad.text) == (422, False)
    await home.judged(rows=4, quarantined=1, duplicates=2)
    ada, bob = KEYS.pseudonym(home.ada), KEYS.pseudonym(home.bob)
    assert {row["who"] for row in home.rows()} == {ada, bob}
    assert {row["mail"] for row in home.rows()} == {ada, None}
    assert await home.where(home.ada) == []


async def test_what_goes_past_the_door_is_refused_and_named_on_the_log_alone(home):
    home.judge().start()
    await home.world.submit(home.stream, trip(0, home.grace) | {"flight_id": "t0"})
    listing = f"/v1/quarantine?stream={home.stream}"

    async def parked_at_all():
        return home.ask("GET", listing).json()

    await until(parked_at_all, timeout_s=60)
    [parked] = home.ask("GET", listing).json()
    assert (parked["reason"], parked["protection"]) == ("not_pseudonymised", "clear")
    found = await home.where(home.grace)
    assert found
    assert {place.split()[0] for place in found} == {"kafka"}


async def test_another_secret_starts_nothing(home):
    home.judge().start()
    home.validation.stop()
    with pytest.raises(NotUpError, match="PERSONAL_SECRET: expected the secret this database"):
        home.judge(PERSONAL_SECRET="x" * 40).start()


async def test_parked_bytes_expire_and_leave_their_place(home):
    home.judge().start()
    assert home.post(trip(0, home.ada, fare=9e9)).status_code == 202
    await home.judged(rows=0, quarantined=1)
    home.validation.stop()
    home.judge(VALIDATION_PARKED_DAYS="0.000001").start()
    listing = f"/v1/quarantine?stream={home.stream}"

    async def gone():
        [row] = home.ask("GET", listing).json()
        return row["erased_at"] is not None

    await until(gone, timeout_s=60)
    [row] = home.ask("GET", listing).json()
    assert (row["reason"], row["size_bytes"], row["record_key"]) == ("range", 0, "")
    shown = home.ask("GET", f"/v1/quarantine/{row['id']}").json()
    assert (shown["value_base64"], shown["headers"]) == ("", [])
    body = {"stream": home.stream, "because": "wider"}
    assert home.ask("POST", "/v1/quarantine/replay", json=body).json()["replayed"] == 0


async def fill(home):
    """Send three rounds of trips of three people, and something to be parked of each."""
    home.judge(VALIDATION_COMPACT_EVERY="3").start()
    for turn in range(3):
        people = [home.ada, home.bob, home.grace] if turn else [home.bob, home.grace, home.bob]
        trips = [trip(10 * turn + at, who) for at, who in enumerate(people * 2)]
        assert home.post(*trips, trip(100 + turn, people[0], fare=9e9)).status_code == 202
        await home.judged(rows=6 * (turn + 1), quarantined=turn + 1)
        await home.mark(10 * turn + 9)
    return home.versions()


async def erased(home):
    """Ask for her erasure twice, as if the first answer was lost; return the one id."""
    body = {"subject": home.ada, "because": "a letter of hers"}
    key = {"idempotency-key": secrets.token_hex(8)}
    path = f"/v1/streams/{home.stream}/erasures"
    ids = set()
    for _ in range(2):
        given = home.ask("POST", path, json=body, headers=BEARER | key)
        assert given.status_code == 202, given.text
        ids.add(given.json()["id"])
    [id_] = ids
    return id_


async def ended(home, id_):
    async def over():
        return home.ask("GET", f"/v1/erasures/{id_}").json()["done_at"] is not None

    await until(over, timeout_s=60)
    return home.ask("GET", f"/v1/erasures/{id_}").json()


def check_gone(home, before, told):
    """Nothing of hers is in any file, everything of the others in every version."""
    hers = KEYS.pseudonym(home.ada)
    assert (told["subject"], told["rows"], told["parked"]) == (hers, 4, 2)
    pins = home.versions()
    assert before.keys() <= pins.keys()
    held = []
    for version, pin in pins.items():
        rows = home.rows(version)
        assert hers not in {row["who"] for row in rows}
        assert pin["rows"] - len(rows) in (0, 2, 4)
        lacks = Content.of_rows(rows) != Content.told(pin["rows"], pin["content"])
        assert lacks == (pin["erased_at"] is not None)
        held += [version] if lacks else []
    assert held
    assert told["versions"] == sorted(held)
    newest = max(pins.values(), key=lambda one: one["id"])
    assert newest["rows"] == 14
    assert newest["version"] not in held


async def test_a_subject_is_erased_from_every_version_and_what_is_parked(home):
    before = await fill(home)
    told = await ended(home, await erased(home))
    check_gone(home, before, told)
    assert await home.audited() == ([], 6)
    hers = KEYS.pseudonym(home.ada)
    places = {place.partition("/")[0] for place in await home.where(hers)}
    kept = {place for place in places if not place.startswith("kafka")}
    assert kept <= {"table erasure", "lake _delta_log"}
    parked = home.ask("GET", f"/v1/quarantine?stream={home.stream}").json()
    assert [one["erased_at"] is None for one in parked] == [True, False, False]
    again = await ended(home, await erased(home))
    assert (again["rows"], again["parked"], again["versions"]) == (0, 0, [])


async def test_what_she_sends_later_is_new_and_the_same_again_is_not(home):
    await fill(home)
    await ended(home, await erased(home))
    home.post(trip(10, home.ada), trip(50, home.ada))
    await home.judged(rows=19, quarantined=3, duplicates=1)
    hers = [row["trip"] for row in home.rows() if row["who"] == KEYS.pseudonym(home.ada)]
    assert hers == ["t50"]


@pytest.mark.parametrize(
    "point", ["erasure_after_delete", "erasure_after_note", "erasure_after_file"]
)
async def test_an_erasure_that_dies_anywhere_ends_the_same(home, point):
    before = await fill(home)
    home.validation.stop()
    dying = home.judge(VALIDATION_COMPACT_EVERY="3", VALIDATION_CRASH_AT=point)
    dying.start()
    id_ = await erased(home)

    async def died():
        try:
            home.ask("GET", "/health/live")
        except httpx.TransportError:
            return True
        return False

    await until(died, timeout_s=60)
    assert dying.stop() == -signal.SIGKILL
    # The dead process's lease would pass by itself, a quarter of an hour later.
    await home.execute("UPDATE lease SET until = now() - interval '1 s'")
    home.judge().start()
    check_gone(home, before, await ended(home, id_))


async def test_an_order_that_cannot_be_is_refused_and_says_nothing_of_whom(home):
    home.judge().start()
    path = f"/v1/streams/{home.stream}/erasures"
    for body in (
        {"subject": [home.ada], "because": "x"},
        {"subject": home.ada},
        {"subject": home.ada, "because": ""},
    ):
        answer = home.ask("POST", path, json=body)
        assert (answer.status_code, home.ada in answer.text) == (422, False)
    other = f"/v1/streams/{home.world.features}/erasures"
    answer = home.ask("POST", other, json={"subject": home.ada, "because": "x"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (404, "stream")
    assert home.ask("GET", "/v1/erasures").json() == []
