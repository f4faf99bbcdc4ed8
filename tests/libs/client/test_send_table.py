"""`gyral send --from-postgres` against a real Postgres: what changed since the last run."""

import os
import signal
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import asyncpg
import pytest

from gyral.testkit.waiting import until
from tests.libs.client.test_send import noted

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]
HOSTILE = """odd "table"; DROP TABLE x --"""
SCHEMA = """
CREATE TABLE orders (
    id      bigint PRIMARY KEY,
    at      timestamptz NOT NULL,
    amount  numeric(10, 2),
    items   smallint,
    paid    boolean,
    note    text,
    changed timestamptz NOT NULL DEFAULT now()
)
"""
FILL = """
INSERT INTO orders (id, at, amount, items, paid, changed)
SELECT n, '2025-01-01T00:00:00Z', n * 1.25, n % 7, n % 2 = 0,
       timestamptz '2025-01-02T00:00:00Z' + n * interval '1 second'
  FROM generate_series($1::bigint, $2::bigint) AS n
"""


@pytest.fixture
async def source(postgres_dsn):
    """A database somebody else owns."""
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(SCHEMA)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def pull(sender, postgres_dsn):
    """The words and the environment that read the table."""
    sender, before = sender

    def words(*more, table="orders", since="changed"):
        return ("--from-postgres", "--table", table, "--since", since, *more)

    return sender, before, words, {"GYRAL_SOURCE_DSN": postgres_dsn}


async def test_rows_arrive_typed_and_later_runs_bring_only_what_changed(source, pull):
    sender, _, words, where = pull
    await source.execute(FILL, 1, 250)
    [first] = sender.sent(*words("--batch", "100"), **where)
    assert (first["accepted"], first["state"]) == (250, "sent")
    assert first["source"].endswith(".orders")
    await source.execute(FILL, 251, 260)
    [second] = sender.sent(*words("--overlap", "5s"), **where)
    assert second["accepted"] == 16
    assert await sender.keys() == {str(number) for number in range(1, 261)}
    assert (await sender.values())[0] == {
        "id": "1",
        "at": datetime(2025, 1, 1, tzinfo=UTC),
        "amount": 1.25,
        "items": 1,
        "paid": False,
    }


async def test_a_change_that_is_committed_late_is_not_missed(source, pull, postgres_dsn):
    sender, _, words, where = pull
    slow = await asyncpg.connect(postgres_dsn)
    try:
        begun = slow.transaction()
        await begun.start()
        await slow.execute("INSERT INTO orders (id, at) VALUES (1, '2025-01-01T00:00:00Z')")
        await source.execute("INSERT INTO orders (id, at) VALUES (2, '2025-01-01T00:00:00Z')")
        sender.sent(*words(), **where)
        assert [row["id"] for row in await sender.values()] == ["2"]
        await begun.commit()
    finally:
        await slow.close()
    oldest = await source.fetchval("SELECT id FROM orders ORDER BY changed LIMIT 1")
    assert oldest == 1
    sender.sent(*words("--overlap", "0s"), **where)
    assert await sender.keys() == {"2"}
    sender.sent(*words(), **where)
    assert await sender.keys() == {"1", "2"}


async def test_a_run_killed_on_the_way_goes_on_where_it_was(source, pull):
    sender, before, words, where = pull
    count = 20_000
    await source.execute(FILL, 1, count)
    with sender.start(*words("--batch", "100"), **where) as process:
        await until(lambda: noted(sender, "SELECT count(*) FROM relation") > 0, timeout_s=60)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    [said] = sender.sent(*words("--batch", "100"), **where)
    assert said["accepted"] < count
    assert await sender.keys() == {str(number) for number in range(1, count + 1)}
    assert await sender.taken() - before == count


async def test_a_view_is_read_again_from_the_very_row_where_a_run_stopped(source, pull):
    sender, _, words, where = pull
    await source.execute("CREATE VIEW shown AS SELECT * FROM orders")
    await source.execute(FILL, 1, 10)
    table = words("--batch", "2", table="shown")
    sender.sent(*table, **where)
    with closing(sqlite3.connect(sender.home / "sent.sqlite3")) as db, db:
        db.execute(
            "UPDATE relation SET key = '5', since = '2025-01-02 00:00:05+00', complete = 0"
        )
    [said] = sender.sent(*table, **where)
    assert said["accepted"] == 6


async def test_names_are_names_whatever_is_in_them(source, pull):
    sender, _, words, where = pull
    table, column = '"odd ""table""; DROP TABLE x --"', '"when; it ""changed"""'
    await source.execute("INSERT INTO orders VALUES (1, '2025-01-01T00:00:00Z')")
    await source.execute(f"ALTER TABLE orders RENAME TO {table}")
    await source.execute(f"ALTER TABLE {table} RENAME COLUMN changed TO {column}")
    await source.execute(f'ALTER TABLE {table} RENAME COLUMN id TO "Order\'s %s $1"')
    named = words("--key", "Order's %s $1", table=HOSTILE, since='when; it "changed"')
    for _ in range(2):
        [said] = sender.sent(*named, **where)
        assert said["accepted"] == 1
    [one, *_] = await sender.values()
    assert one["id"] == "1"


async def test_a_dsn_file_is_private_or_refused(source, pull, postgres_dsn, tmp_path):
    sender, _, words, _ = pull
    file = tmp_path / "dsn"
    file.write_text(postgres_dsn + "\n")
    file.chmod(0o640)
    line = sender.refused(*words("--dsn-file", file))
    assert "expected mode 0600, as it holds a password; found 0640" in line
    file.chmod(0o600)
    await source.execute(FILL, 1, 3)
    [said] = sender.sent(*words("--dsn-file", file))
    assert said["accepted"] == 3


MISTAKES = [
    ("SELECT 1", {"table": "nowhere"}, "--table: expected the exact name of one table or view"),
    ("SELECT 1", {"since": "nowhen"}, "--since: expected one of its columns; found 'nowhen'"),
    ("SELECT 1", {"since": "note"}, "note: expected timestamp with time zone for --since"),
    ("ALTER TABLE orders DROP at", {}, "expected a column 'at' for stream"),
    (
        "ALTER TABLE orders ALTER items TYPE text",
        {},
        "items: expected one of int2, int4, int8 for items, a integer; found text",
    ),
    (
        """ALTER TABLE orders ALTER changed DROP NOT NULL; INSERT INTO orders
           VALUES (1, '2025-01-01T00:00:00Z', NULL, NULL, NULL, NULL, NULL)""",
        {},
        "changed: expected a value in each row; found NULL",
    ),
    (
        "INSERT INTO orders VALUES (7, '2999-01-01T00:00:00Z')",
        {},
        "row with id '7': at: expected a time no later",
    ),
    (
        """ALTER TABLE orders ALTER amount TYPE float8;
           INSERT INTO orders VALUES (7, '2025-01-01T00:00:00Z', 'infinity')""",
        {},
        "row with id '7': amount: expected a finite number",
    ),
]


@pytest.mark.parametrize(("change", "options", "message"), MISTAKES)
async def test_a_table_that_does_not_fit_is_told_where(source, pull, change, options, message):
    sender, before, words, where = pull
    await source.execute(change)
    assert message in sender.refused(*words(**options), **where)
    assert await sender.taken() - before == 0


def test_a_password_is_never_shown(sender):
    sender, _ = sender
    words = ("--from-postgres", "--table", "t", "--since", "c")
    for dsn in ("postgresql://me:hunter2@127.0.0.1:1/db", "mysql://me:hunter2@h/db", "hunter2"):
        assert "hunter2" not in sender.refused(*words, GYRAL_SOURCE_DSN=dsn)
    assert "GYRAL_SOURCE_DSN: expected" in sender.refused(*words, GYRAL_SOURCE_DSN="")
    assert os.environ.get("GYRAL_SOURCE_DSN") is None
