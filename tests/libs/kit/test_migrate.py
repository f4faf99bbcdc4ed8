"""Migrations: once each, forward only, tolerant of a newer schema."""

import asyncio

import pytest

from gyral.kit.db import open_pool
from gyral.kit.migrate import MigrationError, migrate

pytestmark = pytest.mark.live


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "0001_create_thing.sql").write_text(
        "CREATE TABLE thing (id integer PRIMARY KEY);"
    )
    return tmp_path


@pytest.fixture
async def empty(postgres_dsn):
    async with open_pool(postgres_dsn) as opened:
        yield opened


async def test_processes_that_start_together_apply_each_file_once(empty, folder):
    outcomes = await asyncio.gather(*(migrate(empty, folder, service="a") for _ in range(4)))
    assert sorted(len(applied) for applied in outcomes) == [0, 0, 0, 5]
    assert await empty.fetchval("SELECT count(*) FROM thing") == 0


async def test_a_changed_old_file_is_refused(empty, folder):
    await migrate(empty, folder, service="a")
    (folder / "0001_create_thing.sql").write_text("CREATE TABLE thing (id bigint PRIMARY KEY);")
    with pytest.raises(MigrationError, match="add a new file instead"):
        await migrate(empty, folder, service="a")


async def test_a_schema_newer_than_the_code_is_accepted(empty, folder):
    (folder / "0002_add_name.sql").write_text("ALTER TABLE thing ADD COLUMN name text;")
    await migrate(empty, folder, service="a")
    (folder / "0002_add_name.sql").unlink()
    assert await migrate(empty, folder, service="a") == []


async def test_a_failing_file_leaves_nothing_behind(empty, folder):
    (folder / "0002_break_down.sql").write_text(
        "CREATE TABLE half (id integer); SELECT nonsense;"
    )
    with pytest.raises(Exception, match="nonsense"):
        await migrate(empty, folder, service="a")
    assert await empty.fetchval("SELECT to_regclass('thing')") is None


@pytest.mark.parametrize("name", ["1_create_x.sql", "0002-create.sql", "0003_skip_two.sql"])
async def test_a_name_out_of_order_is_refused(empty, folder, name):
    (folder / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError, match="expected"):
        await migrate(empty, folder, service="a")
