"""What versions of a table hold, without reading it; files and log that stay bounded."""

import asyncio
from pathlib import Path
from statistics import median
from time import perf_counter

import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from gyral.modelling.contents import Content
from gyral.validation.domain.retention import kept_from_us
from gyral.validation.domain.standing import Standing
from gyral.validation.engine.reading import held
from gyral.validation.engine.upkeep import CONFIGURATION, SMALLEST_BYTES, target_bytes
from tests.services.validation.lakehouse import House, rows


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def agrees(house, standing):
    return held(house.table(standing.version)) == standing.content


async def test_each_version_holds_what_its_commits_add_up_to(house):
    lake, ledger = house.writer(every=4)
    for number in range(8):
        standing = await house.append(ledger, number, generation=1 + number // 4)
        assert agrees(house, standing)
    await lake.drain()
    latest = await ledger.latest("s")
    assert latest.version > standing.version
    assert (latest.content, latest.schema_version) == (standing.content, 2)
    assert agrees(house, latest)


async def test_several_processes_agree_on_every_version(house):
    (_, one), (_, two) = house.writer(), house.writer()
    for number in range(5):
        assert agrees(house, await house.append(one, number))
        standing = await house.append(two, number, number + 100, partition=1)
        assert agrees(house, standing)
    assert await one.latest("s") == await two.latest("s") == standing
    assert standing.content.rows == 15


async def test_rows_that_a_crash_left_in_the_lake_count_once(house):
    _, ledger = house.writer()
    house.remembered = await house.append(ledger, 0, 1)
    lost = await house.append(ledger, 2)
    _, successor = house.writer()
    assert await successor.latest("s") == lost
    assert agrees(house, await house.append(successor, 3))


async def test_a_version_remembered_by_others_is_where_counting_goes_on(house):
    _, ledger = house.writer()
    await house.append(ledger, 0)
    house.remembered = Standing(1, Content(5, 5), 3)
    _, other = house.writer()
    standing = await house.append(other, 1)
    assert standing.content == Content(5, 5) + Content.of_rows(rows(1).to_pylist())
    assert standing.schema_version == 3


async def test_commits_that_say_nothing_have_the_table_read(house):
    write_deltalake(f"{house.root}/s", rows(0, 1))
    _, ledger = house.writer()
    standing = await house.append(ledger, 2)
    assert standing.content.rows == 3
    assert agrees(house, standing)


async def test_a_nullable_column_added_later_changes_no_old_row(house):
    _, ledger = house.writer()
    before = await house.append(ledger, 0, 1)
    after = await house.append(ledger, 2, generation=2, more=("gate",))
    assert held(house.table(before.version)) == before.content
    assert agrees(house, after)
    assert after.schema_version == 2


async def test_old_rows_go_and_versions_that_had_them_keep_them(house):
    _, ledger = house.writer()
    pinned = await house.append(ledger, 0, 1, 2)
    await house.append(ledger, 3, 4)
    after = await house.retire(ledger, 2)
    assert (after.content.rows, agrees(house, after), agrees(house, pinned)) == (3, True, True)
    assert await house.retire(ledger, 2) is None
    assert agrees(house, await house.append(ledger, 5))


async def test_nothing_goes_from_a_table_that_nobody_made(house):
    _, ledger = house.writer()
    assert await house.retire(ledger, 2) is None


async def test_versions_are_counted_up_to_the_one_asked_for(house):
    (_, one), (_, two) = house.writer(), house.writer()
    await house.append(one, 0)
    await house.append(two, 0, partition=1)
    versions = [await house.append(one, number) for number in range(1, 4)]
    lake, _ = house.writer()
    commits = await lake.commits("s", versions[0].version, versions[1].version)
    assert [commit.facts["gyral.content"] for commit in commits] == [
        Content.of_rows(rows(2).to_pylist()).digest
    ]


async def test_a_writer_that_others_overtook_knows_its_own_version(house):
    """Others go on between its commit and its look into the log."""
    (_, one), (_, two), (_, three) = house.writer(), house.writer(), house.writer()
    await house.append(one, 0)
    for number in range(1, 30):
        found = await asyncio.gather(
            house.append(one, number),
            house.append(two, number, partition=1),
            house.append(three, number, partition=2),
        )
        assert all(agrees(house, standing) for standing in found)


async def test_a_table_of_before_is_brought_to_todays_settings(house):
    old = {"delta.deletedFileRetentionDuration": "interval 36500 days"}
    write_deltalake(f"{house.root}/s", rows(0), configuration=old)
    lake, ledger = house.writer(every=2)
    for number in range(1, 5):
        standing = await house.append(ledger, number)
        await lake.drain()
    assert agrees(house, standing)
    assert house.table().metadata().configuration == CONFIGURATION


async def test_appends_go_on_beside_a_retirement(house):
    (_, one), (_, two) = house.writer(), house.writer()
    await house.append(one, *range(50))
    retired, appended = await asyncio.gather(house.retire(two, 10), house.append(one, 50))
    assert agrees(house, retired)
    assert agrees(house, appended)
    assert (await one.latest("s")).content.rows == 41


@given(st.integers(0, 2**60), st.integers(1, 2**55))
def test_rows_are_kept_for_their_retention_and_hardly_longer(watermark_us, retention_us):
    edge_us = kept_from_us(watermark_us, retention_us)
    if edge_us is None:
        assert watermark_us < retention_us + max(1, retention_us // 32)
    else:
        step_us = max(1, retention_us // 32)
        assert retention_us <= watermark_us - edge_us < retention_us + step_us


def test_nothing_goes_before_time_is_known():
    assert kept_from_us(None, 1) is None


def log_after_checkpoint(root):
    """Return the log files that opening a table reads, and the checkpoint's size."""
    log = Path(root, "s", "_delta_log")
    checkpoint = max(log.glob("*.checkpoint.parquet"))
    newest = int(checkpoint.name.partition(".")[0])
    later = [each for each in log.glob("*.json") if each.stem > f"{newest:020d}"]
    return len(later), checkpoint.stat().st_size


async def test_hundreds_of_small_commits_leave_few_files_and_a_short_log(house):
    lake, ledger = house.writer(every=10)
    seconds, sizes = [], []
    for number in range(500):
        began = perf_counter()
        standing = await house.append(ledger, number)
        seconds.append(perf_counter() - began)
        if number % 10 == 9:
            await lake.drain()
            files = len(house.table().file_uris())
            assert files <= 2 * 10
        if number % 100 == 99:
            later, size = log_after_checkpoint(house.root)
            assert later <= 50
            sizes.append(size)
    assert agrees(house, standing)
    assert median(seconds[-100:]) < 10 * median(seconds[50:150])


def test_files_are_merged_in_levels():
    sizes = [target_bytes(times) for times in range(1, 513)]
    counts = [sizes.count(SMALLEST_BYTES * 8**level) for level in range(4)]
    assert counts == [448, 56, 7, 1]


async def test_writers_that_merge_and_retire_at_once_keep_every_row_once(house):
    (one, first), (two, second) = house.writer(every=2), house.writer(every=2)
    for number in range(24):
        await asyncio.gather(
            house.append(first, number),
            house.append(second, number, partition=1),
            house.retire(first if number % 2 else second, number // 2),
        )
    await one.drain()
    await two.drain()
    latest = await first.latest("s")
    assert agrees(house, latest)
    assert latest.content.rows == 2 * (24 - 11)
    assert house.turned_away > 0
