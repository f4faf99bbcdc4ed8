"""`gyral send` against the real door: each row once, whatever happens on the way."""

import gzip
import os
import signal
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gyral.testkit.waiting import until

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]
HEAD = b"id,at,amount,items,paid,note\n"
ROWS = (
    b"007,2025-01-01T00:00:00Z,1.50,3,true,x\n"
    b"b,2025-01-01T00:00:01+01:00,,,,\n"
    b'"c, d",2025-01-01T00:00:02Z,2,0,false,"two\nlines"\n'
)
WANTED: list[dict[str, Any]] = [
    {
        "id": "007",
        "at": datetime.fromisoformat("2025-01-01T00:00:00+00:00"),
        "amount": 1.5,
        "items": 3,
        "paid": True,
    },
    {
        "id": "b",
        "at": datetime.fromisoformat("2024-12-31T23:00:01+00:00"),
        "amount": None,
        "items": None,
        "paid": None,
    },
    {
        "id": "c, d",
        "at": datetime.fromisoformat("2025-01-01T00:00:02+00:00"),
        "amount": 2.0,
        "items": 0,
        "paid": False,
    },
]


def lines(count, first=0):
    return b"".join(
        b'{"id":"%08d","at":"2025-01-01T00:00:00Z","items":%d}\n' % (number, number)
        for number in range(first, first + count)
    )


def noted(sender, question):
    """Return a number that `gyral` noted so far; 0 before it noted anything."""
    try:
        with closing(
            sqlite3.connect(f"file:{sender.home}/sent.sqlite3?mode=ro", uri=True)
        ) as db:
            return db.execute(question).fetchone()[0] or 0
    except sqlite3.OperationalError:
        return 0


async def test_a_csv_arrives_as_its_stream_declares_it_and_once(sender, tmp_path):
    sender, _ = sender
    file = tmp_path / "orders.csv"
    file.write_bytes(HEAD + ROWS)
    [first] = sender.sent(file)
    [again] = sender.sent(file)
    assert (first["accepted"], first["total"], first["state"]) == (3, 3, "sent")
    assert first["ignored"] == ["note"]
    assert (again["accepted"], again["total"]) == (0, 3)
    assert again["state"].startswith("already sent ")
    assert await sender.values() == WANTED


async def test_parquet_and_packed_text_arrive_the_same(sender, tmp_path):
    sender, _ = sender
    table = pa.table(
        {
            "id": pa.array([each["id"] for each in WANTED]).dictionary_encode(),
            "at": pa.array(
                [each["at"] for each in WANTED],
                pa.timestamp("ms", "UTC"),
            ),
            "amount": pa.array([1.5, None, 2.0], pa.float32()),
            "items": pa.array([3, None, 0], pa.int16()),
            "paid": [True, None, False],
        }
    )
    pq.write_table(table, tmp_path / "orders.parquet", row_group_size=2)
    (tmp_path / "orders.csv.gz").write_bytes(gzip.compress(HEAD + ROWS))
    (tmp_path / "orders.csv.zst").write_bytes(pa.compress(HEAD + ROWS, "zstd", asbytes=True))
    names = ("orders.parquet", "orders.csv.gz", "orders.csv.zst")
    said = sender.sent(*(tmp_path / name for name in names), "--batch", "2")
    assert [each["accepted"] for each in said] == [3, 3, 3]
    assert await sender.values() == [row for row in WANTED for _ in names]


async def test_a_file_killed_twice_goes_on_and_adds_nothing_twice(sender, tmp_path):
    sender, before = sender
    file, count = tmp_path / "orders.ndjson", 20_000
    file.write_bytes(lines(count))

    reached = partial(noted, sender, "SELECT max(rows) FROM file")

    def far(least):
        return reached() >= least

    for least in (1000, 6000):
        with sender.start(file, "--batch", "100") as process:
            await until(partial(far, least), timeout_s=60)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert process.returncode == -signal.SIGKILL
    before_end = reached()
    assert 6000 <= before_end < count
    [said] = sender.sent(file, "--batch", "100")
    assert (said["accepted"], said["total"]) == (count - before_end, count)
    assert await sender.taken() - before == count
    rows = await sender.rows()
    assert len({row.id for row in rows}) == count
    assert {row.values["id"] for row in rows} == {f"{number:08d}" for number in range(count)}


async def test_a_lost_memory_adds_nothing_either(sender, tmp_path):
    sender, before = sender
    file = tmp_path / "orders.ndjson"
    file.write_bytes(lines(500))
    sender.sent(file, "--batch", "200")
    (sender.home / "sent.sqlite3").unlink()
    [said] = sender.sent(file, "--batch", "200")
    assert said["accepted"] == 500
    assert await sender.taken() - before == 500
    assert len(await sender.rows()) == 500


async def test_a_file_that_was_mended_is_sent_anew_only_when_told(sender, tmp_path):
    sender, _ = sender
    file = tmp_path / "orders.csv"
    good = b"".join(b"%04d,2025-01-01T00:00:00Z,1,1,true\n" % number for number in range(30))
    head = HEAD.replace(b",note", b"")
    file.write_bytes(head + good + b"bad,2025-01-01T00:00:00Z,1,1.5,\n")
    line = sender.refused(file, "--batch", "10")
    assert f"{file}: line 32: items: expected a whole number; found '1.5'" in line
    file.write_bytes(head + good + b"bad,2999-01-01T00:00:00Z,1,2,\n")
    line = sender.refused(file, "--batch", "10")
    assert f"{file}: line 32: at: expected a time no later than" in line
    assert "mend it, then send again with --restart" in line
    file.write_bytes(file.read_bytes().replace(b"2999", b"2024"))
    line = sender.refused(file, "--batch", "10")
    assert "expected the content whose first 30 rows were sent; found another" in line
    assert "--restart" in line
    [said] = sender.sent(file, "--batch", "10", "--restart")
    assert said["accepted"] == 31
    assert await sender.keys() >= {"0000", "0029", "bad"}


async def test_what_the_door_refuses_is_told_by_the_files_own_line(sender, tmp_path):
    sender, before = sender
    file = tmp_path / "orders.ndjson"
    file.write_bytes(lines(5) + b'\n{"id":"x","at":"2025-01-01T00:00:00"}\n')
    line = sender.refused(file, "--batch", "4")
    assert f"{file}: line 7: at: expected an RFC 3339 time with an offset" in line
    assert await sender.taken() - before == 4
    file.write_bytes(lines(5) + b"{")
    assert "line 6: expected JSON" in sender.refused(file, "--restart")


async def test_stdin_is_sent_and_the_same_again_adds_nothing(sender):
    sender, before = sender
    for _ in range(2):
        [said] = sender.sent("--batch", "30", given=lines(100))
        assert (said["source"], said["accepted"]) == ("stdin", 100)
    assert await sender.taken() - before == 100


async def test_a_door_that_is_away_is_waited_for(sender, tmp_path):
    sender, before = sender
    file = tmp_path / "orders.ndjson"
    file.write_bytes(lines(3000))
    door = sender.ways.ingestion
    door.kill()
    with sender.start(file, "--batch", "100") as process:
        door.start()
        process.communicate(timeout=90)
    assert process.returncode == 0
    assert await sender.taken() - before == 3000


async def test_progress_is_shown_at_a_terminal(sender, tmp_path):
    sender, _ = sender
    file = tmp_path / "orders.ndjson"
    file.write_bytes(lines(250))
    ours, theirs = os.openpty()
    try:
        with sender.start(file, "--batch", "50", stderr=theirs) as process:
            out, _ = process.communicate(timeout=90)
        shown = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 0
    assert "orders.ndjson" in shown
    assert "rows" in shown
    assert b"250" in out


async def test_nobody_else_can_read_what_was_sent(sender, tmp_path):
    sender, _ = sender
    file = tmp_path / "orders.ndjson"
    file.write_bytes(lines(1))
    sender.sent(file)
    assert (sender.home / "sent.sqlite3").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"x", "expected a name that ends in .csv"),
        ("a.csv", b"", "expected a CSV file; found Empty CSV file"),
        ("a.csv", b"id,id\n1,2\n", "found 'id' twice"),
        ("a.csv", b"id,amount\n1,2\n", "expected a column 'at' for stream"),
        ("a.csv", HEAD + b"a,b\n", "expected a CSV file; found CSV parse error"),
        ("a.csv", HEAD + b"\xff,2025-01-01T00:00:00Z,,,,\n", "invalid UTF8"),
        ("a.csv", HEAD + b"a,yesterday,,,,\n", "a.csv: line 2: at: expected times such as"),
        ("a.csv", HEAD + b"a,2025-01-01T00:00:00Z,1e999,,,\n", "amount: expected a finite"),
        ("a.csv", b"\x1b[31mid,at\n1,2\n", "found \ufffd[31mid, at: rename one"),
        ("a.csv.gz", b"no gzip", "expected a CSV file; found"),
        ("a.parquet", b"PAR1", "expected a Parquet file; found"),
    ],
)
async def test_a_file_that_does_not_fit_is_refused_in_one_line(
    sender, tmp_path, name, content, message
):
    sender, before = sender
    file = tmp_path / name
    file.write_bytes(content)
    assert message in sender.refused(file)
    assert await sender.taken() - before == 0


async def test_a_memory_that_is_none_is_told_with_its_way_out(sender, tmp_path):
    sender, before = sender
    file = tmp_path / "orders.ndjson"
    file.write_bytes(lines(1))
    sender.home.mkdir()
    (sender.home / "sent.sqlite3").write_bytes(b"no database, " * 100)
    line = sender.refused(file)
    assert "sent.sqlite3: expected to note there what was sent; found file is not" in line
    assert "move the file away" in line
    assert await sender.taken() - before == 0


async def test_a_marker_follows_the_rows(sender, tmp_path):
    sender, _ = sender
    file = tmp_path / "orders.ndjson"
    file.write_bytes(lines(1))
    sender.sent(file, "--watermark", "2025-01-02T00:00:00Z")
    late = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert "event_time: expected a time no later" in sender.refused(file, "--watermark", late)
    assert await sender.keys() == {"00000000"}
