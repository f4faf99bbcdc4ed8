"""`gyral dlq` and `gyral quarantine`, typed against real services' routes and tables."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from pyarrow import parquet

from gyral.client.audit import replays
from gyral.client.commands import letters, quarantining
from gyral.client.commands.letters import SERVICES
from gyral.client.commands.raw import plain, shown
from gyral.kit.tx import PermanentError
from gyral.validation.domain.refusals import Reason
from tests.libs.client.parked import parked_platform
from tests.libs.kit.line import TOPIC, Lying, lying
from tests.services.validation.desk import refused

live = pytest.mark.live
HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e\r\n<b>"


@pytest.fixture
async def platform(stack, tmp_path):
    async with parked_platform(stack, tmp_path) as made:
        yield made


async def park(line, number=7, mishap=None):
    line.effects.mishaps = {number: mishap or ValueError(HOSTILE)}
    await line.come(lying(number, event_id=f"e-{number}"))
    line.effects.mishaps = {}


def test_those_that_handle_events_are_those_asked():
    root = Path(__file__).parents[3]
    handling = {
        app.parent.name
        for app in root.glob("services/*/src/gyral/*/app.py")
        if "bus.on(" in app.read_text()
    }
    offering = {
        page.stem
        for page in root.glob("contracts/openapi/*.json")
        if "/v1/dead-letters" in orjson.loads(page.read_bytes())["paths"]
    }
    assert handling == offering == set(SERVICES)


@pytest.mark.parametrize(
    ("service", "name", "known"),
    [
        ("validation", "Refused", quarantining.Refused),
        ("validation", "WholeRefused", quarantining.Whole),
        ("trainer", "Letter", letters.Letter),
        ("trainer", "WholeLetter", letters.Whole),
    ],
)
def test_what_is_read_is_what_the_service_says_it_answers(service, name, known):
    page = Path(__file__).parents[3] / "contracts" / "openapi" / f"{service}.json"
    schema = orjson.loads(page.read_bytes())["components"]["schemas"][name]
    assert set(known.__struct_fields__) == set(schema["properties"])


@live
async def test_letters_of_every_service_are_listed_and_chosen(platform):
    await park(platform.lines["registry"])
    await park(platform.lines["trainer"], 8, PermanentError("no such model"))
    listed = await platform.read("dlq", "ls")
    assert [(row["consumer"], row["event_id"], row["reason"]) for row in listed] == [
        ("registry", "e-7", "bug"),
        ("trainer", "e-8", "permanent"),
    ]
    for words, count in (
        (["--reason", "bug"], 1),
        (["--topic", TOPIC], 2),
        (["--topic", "other.v1"], 0),
        (["--id", listed[0]["id"], "--id", listed[1]["id"]], 2),
        (["--id", listed[0]["id"], "--reason", "permanent"], 0),
        (["--state", "replayed"], 0),
    ):
        assert len(await platform.read("dlq", "ls", *words)) == count, words
    table = await platform.type("dlq", "ls")
    assert table.splitlines()[0].split()[:3] == ["TOPIC", "REASON", "WHEN"]
    assert safe(table)


def safe(text):
    return all(char.isprintable() or char == "\n" for char in text)


@live
async def test_a_letter_is_shown_with_what_it_carries_and_obeys_nothing(platform):
    line = platform.lines["trainer"]
    headers = (("ce_id", b"x-1"), ("noise", b"\xff\x00\x1b"), ("none", None))
    await line.come(Lying(HOSTILE.encode() * 1000, headers))
    [letter] = await platform.read("dlq", "ls")
    told = await platform.type("dlq", "show", letter["id"], "--bytes", "64")
    assert safe(told)
    assert "\\x1b[2J\\u202e\\r\\n<b>" in told
    assert "00000000  ff 00 1b" in told
    assert re.search(r"and \d+ bytes more", told)
    assert "x-1" in told
    assert "no dead letter" not in told
    refusal = await platform.type("dlq", "show", "nonsense\x1b", status=1)
    assert "expected one that `gyral dlq ls` shows" in refusal


@live
async def test_letters_are_counted_first_then_put_back_once_by_an_operator(platform):
    line = platform.lines["registry"]
    await park(line)
    words = ("dlq", "replay", "--topic", TOPIC, "--reason", "bug")
    [counted] = await platform.read(*words, "--dry-run")
    assert (counted["consumer"], counted["letters"]) == ("registry", 1)
    assert "expected --because" in await platform.type(*words, status=1)
    because = ("--because", "mended in 1.4.2")
    assert "403" in await platform.type(*words, *because, key="reader", status=1)
    assert await line.audit() == []
    done = await platform.read(*words, *because)
    assert {row["consumer"]: row["replayed"] for row in done} == {
        "registry": 1,
        "trainer": 0,
        "deployer": 0,
    }
    [copy] = await line.sent()
    await line.come(copy)
    assert await line.effects.done() == [("a", 7)]
    assert sum(row["replayed"] for row in await platform.read(*words, *because)) == 0
    assert [entry[1] for entry in await line.audit()] == ["mended in 1.4.2"]


@live
async def test_a_replayed_letter_is_explained_and_one_put_back_without_an_entry_is_found(
    platform,
):
    line = platform.lines["deployer"]
    await park(line)
    async with line.pool.acquire() as connection:
        [letter] = await platform.read("dlq", "ls")
        assert letter["id"] not in await replays.settled(connection)
        await line.put_back(topic=TOPIC)
        assert letter["id"] in await replays.settled(connection)
        assert await replays.unaudited(connection) == []
        await connection.execute("UPDATE dead_letter SET replay_id = gen_random_uuid()")
        [found] = await replays.unaudited(connection)
        assert found.endswith(f"dead_letter {letter['id']}: nobody said why it was put back")


@live
async def test_refused_rows_are_listed_shown_and_put_back(platform):
    desk = platform.desk
    ids = await desk.refuse(
        refused(1, record_key=HOSTILE.replace("\r\n", "")),
        refused(2, reason=Reason.TYPE, value=b"\xff\x00"),
        refused(3, stream="other"),
    )
    listed = await platform.read("quarantine", "ls", "--stream", "orders")
    assert [row["id"] for row in listed] == ids[:2]
    assert {row["schema_version"] for row in listed} == {2}
    table = await platform.type("quarantine", "ls")
    assert safe(table)
    assert "data.record.submitted.v1/1/3/0" in table
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for words, count in (
        (["--reason", "type"], 1),
        (["--since", soon], 0),
        (["--since", "2020-01-01"], 3),
        (["--limit", "2"], 2),
        (["--id", str(ids[2]), "--stream", "orders"], 0),
        (["--id", str(ids[2])], 1),
    ):
        assert len(await platform.read("quarantine", "ls", *words)) == count, words
    told = await platform.type("quarantine", "show", str(ids[1]))
    assert safe(told)
    assert "00000000  ff 00" in told
    missing = await platform.type("quarantine", "show", "999", status=1)
    assert "found none with id 999" in missing
    order = ("quarantine", "replay", "--stream", "orders")
    counted = await platform.read(*order, "--dry-run")
    assert [(row["reason"], row["rows"]) for row in counted] == [("range", 1), ("type", 1)]
    [done] = await platform.read(*order, "--because", "declared as text")
    assert done["replayed"] == 2
    assert len(await desk.sent()) == 2
    [(_, actor, because, items)] = await desk.audit()
    assert actor.startswith("op ")
    assert (because, items) == ("declared as text", [str(id_) for id_ in ids[:2]])
    replayed = await platform.read("quarantine", "ls", "--state", "replayed")
    assert [each["state"] for each in replayed] == ["replayed"] * 2


@live
async def test_rows_refused_again_wait_for_the_next_replay(platform):
    desk = platform.desk
    large = b"x" * (3 << 20)
    await desk.refuse(*(refused(n, value=large) for n in range(5)))
    places = iter(range(100, 115))

    async def refuse_again():
        for copy in await desk.sent():
            await desk.refuse_again(next(places), copy)

    platform.aftermath["validation"] = refuse_again
    words = ("quarantine", "replay", "--stream", "orders", "--because", "not mended at all")
    [done] = await platform.read(*words)
    assert (done["replayed"], len(done["replay_ids"])) == (5, 3)
    assert len(await platform.read("quarantine", "ls", "--state", "held")) == 5
    assert len(await desk.audit()) == 3


@live
async def test_letters_parked_again_wait_for_the_next_replay(platform):
    line = platform.lines["trainer"]
    for offset in range(6):
        await line.come(Lying(b"\xff" * (7 << 19), offset=offset))
    left = 3 * 6

    async def park_again():
        nonlocal left
        for copy in await line.sent():
            left -= 1
            assert left, "replayed again and again"
            await line.come(copy)

    platform.aftermath["trainer"] = park_again
    words = ("dlq", "replay", "--topic", TOPIC, "--because", "not mended at all")
    done = {row["consumer"]: row for row in await platform.read(*words)}
    assert (done["trainer"]["replayed"], len(done["trainer"]["replay_ids"])) == (6, 2)
    assert len(await platform.read("dlq", "ls", "--state", "parked")) == 6


@live
async def test_an_export_holds_every_row_whatever_the_pages(platform):
    large = b"\xff" * (3 << 20)
    ids = await platform.desk.refuse(*(refused(n, value=large) for n in range(5)))
    for name in ("held.ndjson", "held.parquet"):
        [told] = await platform.read("quarantine", "export", name, "--stream", "orders")
        assert told["rows"] == 5
    lines = (platform.folder / "held.ndjson").read_bytes().splitlines()
    assert [orjson.loads(line)["id"] for line in lines] == ids
    table = parquet.read_table(platform.folder / "held.parquet")
    assert table.column("id").to_pylist() == ids
    assert set(table.column("value").to_pylist()) == {large}
    refusal = await platform.type("quarantine", "export", "held.xls", status=1)
    assert "held.xls: expected a name that ends in" in refusal
    assert {path.name for path in platform.folder.iterdir()} == {"held.ndjson", "held.parquet"}


def test_bytes_are_text_when_they_are_text_and_a_cut_is_no_fault():
    euro = "€".encode()
    assert list(shown(euro * 3, most=4)) == ["€", "... and 5 bytes more: --bytes 9 shows all"]
    assert list(shown(b"")) == [""]
    assert list(shown(b"a\nb")) == ["a\\nb"]
    assert list(shown(bytes(range(14)) + b"~\xff\xff"))[1].startswith("00000010  ff ")
    assert plain("\udcff\x00") == "\\udcff\\x00"
