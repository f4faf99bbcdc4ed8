"""Files that no version needs go; what is pinned, new or being read stays as it was."""

import os
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gyral.contracts.names import DatasetPin
from gyral.testkit.backends import migrated_pool
from gyral.validation.engine import vacuum
from gyral.validation.engine.lake import LakeMovedError
from gyral.validation.engine.reading import held
from gyral.validation.engine.upkeep import upkeep_of
from gyral.validation.store.pins import Pins
from tests.services.validation.lakehouse import House

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
MARGIN = timedelta(hours=2)


def age(house, days):
    """Let everything that is there have been written so many days earlier than it is dated."""
    for path in Path(house.root).rglob("*"):
        if path.is_file():
            written = path.stat().st_mtime - days * 86_400
            os.utime(path, (written, written))


def sizes(house):
    """Return the data files that are there, and how many bytes each has."""
    return {path.name: path.stat().st_size for path in Path(house.root, "s").glob("*.parquet")}


def paths(house):
    return set(sizes(house))


def write(house, name):
    """Leave a file that no commit knows."""
    Path(house.root, "s", name).write_bytes(b"not committed")
    return name


def files_of(table):
    return {Path(uri).name for uri in table.file_uris()}


async def vacuum_at(lake, days, *pinned):
    """Vacuum with readers of versions replaced within so many days undisturbed."""
    return await lake.vacuum("s", pinned, NOW - days * DAY + MARGIN)


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


async def filled(house):
    """Return a lake, and what its versions hold: merged twice and retired since, days ago."""
    lake, ledger = house.writer(every=4)
    contents = {}
    for number in range(8):
        standing = await house.append(ledger, number)
        contents[standing.version] = standing.content
        await lake.drain()
    retired = await house.retire(ledger, 3)
    contents[retired.version] = retired.content
    age(house, 10)
    return lake, ledger, contents


async def test_what_no_version_needs_goes_and_what_runs_read_stays(house):
    lake, _, contents = await filled(house)
    versions = list(contents)
    before = sizes(house)
    swept = await vacuum_at(lake, 5, versions[2], versions[4])
    after = sizes(house)
    assert swept.files == len(before) - len(after) > 0
    assert swept.size_bytes == sum(before.values()) - sum(after.values())
    for version in (versions[2], versions[4], versions[-1]):
        assert held(house.table(version)) == contents[version]
    with pytest.raises(FileNotFoundError):
        held(house.table(versions[6]))
    assert (await vacuum_at(lake, 5, versions[2], versions[4])).files == 0


async def test_a_reader_of_what_was_newest_lately_is_not_disturbed(house):
    lake, ledger, contents = await filled(house)
    reading = house.table()
    latest = max(contents)
    for number in range(20, 28):
        await house.append(ledger, number)
        await lake.drain()
    assert not paths(house) <= files_of(house.table())
    await vacuum_at(lake, 5)
    assert held(reading) == contents[latest]
    age(house, 10)
    await vacuum_at(lake, 5)
    with pytest.raises(FileNotFoundError):
        held(reading)


async def test_files_of_a_commit_that_is_under_way_stay(house):
    lake, _, _ = await filled(house)
    under_way = write(house, "part-under-way.parquet")
    await vacuum_at(lake, 5)
    assert under_way in paths(house)
    age(house, 10)
    await vacuum_at(lake, 5)
    assert under_way not in paths(house)


async def test_what_stopped_anywhere_is_finished_the_next_time(house, monkeypatch):
    lake, _, contents = await filled(house)
    pinned, latest = list(contents)[2], max(contents)
    monkeypatch.setattr(vacuum, "MOST_FILES", 1)
    gone = 0
    while (await vacuum_at(lake, 5, pinned)).files:
        gone += 1
        assert held(house.table(pinned)) == contents[pinned]
        assert held(house.table()) == contents[latest]
    assert gone > 1


async def test_nothing_goes_when_a_pinned_version_cannot_be_read(house):
    lake, _, contents = await filled(house)
    before = paths(house)
    with pytest.raises(ConnectionError):
        await vacuum_at(lake, 5, max(contents) + 100)
    assert paths(house) == before


async def test_it_waits_while_another_works_on_the_table(house):
    lake, _, _ = await filled(house)
    before = paths(house)
    async with house.alone(upkeep_of("s")):
        with pytest.raises(LakeMovedError):
            await vacuum_at(lake, 5)
    assert paths(house) == before
    assert (await lake.vacuum("nobody-made-it", [], NOW)).files == 0


class Watched:
    """A lake, and what must be readable of it."""

    def __init__(self, house):
        self.house = house
        self.lake, self.ledger = house.writer()
        self.contents = {}
        self.replaced = {}
        self.pinned = set()
        self.days = 0
        self.rows = 0

    async def append(self):
        self.rows += 1
        await self.house.append(self.ledger, self.rows)

    async def retire(self):
        await self.house.retire(self.ledger, self.rows // 2)

    async def merge(self):
        self.house.table().optimize.compact()

    async def age(self):
        age(self.house, 3)
        self.days += 3

    async def pin(self):
        self.pinned.add(max(self.contents))

    async def vacuum(self):
        await vacuum_at(self.lake, 5, *self.pinned)

    async def look(self):
        """Take note of a new version; read all that must be readable."""
        standing = await self.ledger.latest("s")
        if self.contents and standing.version not in self.contents:
            self.replaced[max(self.contents)] = self.days
        self.contents[standing.version] = standing.content
        for version, content in self.contents.items():
            recent = self.days - self.replaced.get(version, self.days) < 5
            if version in self.pinned or recent:
                assert held(self.house.table(version)) == content, version


steps = st.sampled_from(["append", "append", "merge", "retire", "age", "pin", "vacuum"])


@settings(max_examples=15, deadline=None)
@given(st.lists(steps, max_size=30))
async def test_whatever_happens_each_version_that_must_is_readable(tmp_path_factory, taken):
    watched = Watched(House(tmp_path_factory.mktemp("lake")))
    for step in ["append", *taken, "age", "age", "vacuum"]:
        await getattr(watched, step)()
        await watched.look()
    needed = {max(watched.contents), *watched.pinned}
    files = [files_of(watched.house.table(version)) for version in needed]
    assert paths(watched.house) == set().union(*files)


@pytest.fixture
async def pool(postgres_dsn):
    """Validation's own tables."""
    migrations = resources.files("gyral.validation") / "migrations"
    async with migrated_pool(postgres_dsn, service="validation", migrations=migrations) as made:
        yield made


@pytest.mark.live
async def test_pins_are_what_runs_read_and_what_was_newest_at_a_moment(pool):
    pins = Pins(pool)
    at = NOW
    for version in range(4):
        await pool.execute(
            """
            INSERT INTO dataset (stream, version, watermark_us, usable_us, rows, committed_at)
            VALUES ('s', $1, 0, 0, 0, $2)
            """,
            version,
            at + version * DAY,
        )
    read = [DatasetPin(stream="s", version=0, watermark=NOW)]
    await pins.keep([*read, DatasetPin(stream="t", version=9, watermark=NOW)])
    await pins.keep(read)
    assert await pins.of("s", at + 2.5 * DAY) == [0, 2]
    assert await pins.of("s", at - DAY) == [0]
    assert await pins.of("nothing", at) == []
