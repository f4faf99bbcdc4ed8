"""The journal keeps what was appended, in order, whatever ends it."""

import asyncio
import os
import resource
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.kit.journal import JournalBrokenError, JournalFullError, Limits
from gyral.kit.segments import Entry, Position, entries, frame
from tests.libs.kit.journals import START, an_entry, everything, opened

an_entry_of_any_kind = st.builds(
    an_entry, st.integers(0, 10**11), st.binary(max_size=300), st.integers(0, 255)
)


@given(kept=st.lists(an_entry_of_any_kind, max_size=8), data=st.data())
def test_a_torn_end_costs_only_the_entry_that_was_torn(kept, data):
    framed = [frame(entry) for entry in kept]
    whole = b"".join(framed)
    cut = data.draw(st.integers(0, len(whole)))
    survivors = [entry for entry, _ in entries(whole[:cut])]
    assert survivors == kept[: len(survivors)]
    assert sum(map(len, framed[: len(survivors)])) <= cut
    assert len(survivors) == len(kept) or cut < sum(map(len, framed[: len(survivors) + 1]))


@given(kept=st.lists(an_entry_of_any_kind, min_size=1, max_size=5), data=st.data())
def test_a_flipped_bit_is_never_read_as_an_entry(kept, data):
    whole = bytearray(b"".join(map(frame, kept)))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    survivors = [entry for entry, _ in entries(bytes(whole))]
    assert survivors == kept[: len(survivors)]
    assert len(survivors) < len(kept)


async def test_what_was_appended_is_read_in_order_by_the_next_process(tmp_path):
    journal = await opened(tmp_path)
    kept = [an_entry(number, os.urandom(9000)) for number in range(30)]
    for entry in kept:
        await journal.append(entry)
    assert len(list(tmp_path.glob("*.journal"))) > 1
    assert await everything(journal) == kept
    journal.close()
    assert await everything(await opened(tmp_path)) == kept


async def test_a_restart_goes_on_behind_the_last_acknowledged_entry(tmp_path):
    journal = await opened(tmp_path)
    for number in range(20):
        await journal.append(an_entry(number, os.urandom(9000)))
    batch = await journal.read(Position(0, 0))
    journal.ack(batch[2][1])
    journal.close()
    again = await opened(tmp_path)
    assert [entry.time_us for entry in await everything(again, again.acked)] == list(
        range(3, 20)
    )


async def append_without_end(journal):
    while True:
        await journal.append(an_entry(1, os.urandom(9000)))


async def test_acknowledged_segments_are_deleted_and_make_room(tmp_path):
    journal = await opened(
        tmp_path, Limits(max_bytes=200_000, segment_bytes=1 << 16, fsync=False)
    )
    with pytest.raises(JournalFullError, match="expected Kafka to take"):
        await append_without_end(journal)
    at = Position(0, 0)
    while batch := await journal.read(at):
        at = batch[-1][1]
        journal.ack(at)
    assert len(list(tmp_path.glob("*.journal"))) == 1
    await journal.append(an_entry(7, b"room"))
    assert [entry.payload for entry in await everything(journal, at)] == [b"room"]


async def test_a_killed_process_leaves_a_torn_end_that_the_next_one_cuts(tmp_path):
    journal = await opened(tmp_path)
    for number in range(3):
        await journal.append(an_entry(number, b"x" * 100))
    [segment] = tmp_path.glob("*.journal")
    with segment.open("ab") as file:
        file.write(frame(an_entry(3, b"x" * 100))[:-1])
    journal.close()
    again = await opened(tmp_path)
    await again.append(an_entry(4))
    assert [entry.time_us for entry in await everything(again)] == [0, 1, 2, 4]


async def test_every_append_waits_for_a_sync_that_began_after_it(tmp_path):
    journal = await opened(
        tmp_path, Limits(max_bytes=1 << 20, segment_bytes=1 << 16, fsync=True)
    )
    await asyncio.gather(*(journal.append(an_entry(n, os.urandom(9000))) for n in range(40)))
    assert sorted(entry.time_us for entry in await everything(journal)) == list(range(40))


async def test_a_disk_that_refuses_leaves_nothing_of_the_entry_behind(tmp_path):
    journal = await opened(tmp_path)
    await journal.append(an_entry(1))
    journal.close()  # the file is gone from under the journal: the next write fails
    with pytest.raises(JournalBrokenError, match="journal: expected to write"):
        await journal.append(an_entry(2))
    assert journal.writable() is not None
    journal.close()
    assert [entry.time_us for entry in await everything(await opened(tmp_path))] == [1]


async def append_until_refused(journal, kept):
    try:
        while True:
            entry = an_entry(len(kept), os.urandom(9000))
            await journal.append(entry)
            kept.append(entry)
    except JournalBrokenError:
        assert kept


@contextmanager
def no_more_bytes_than(size_bytes):
    """A file that reaches this size takes no more, as on a full disk: writes fall short."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def no_room_for_another_file(folder):
    """Open files go on; a new one cannot be made, as when the disk has no inode left."""
    away = folder.with_name("away")
    folder.rename(away)
    try:
        yield
    finally:
        away.rename(folder)


def fill_the_disk_under(path):
    """Have what this process writes into a file it holds open find no room, nor be cut off."""
    [number] = [
        int(each.name)
        for each in Path("/proc/self/fd").iterdir()
        if each.is_symlink() and each.readlink() == path
    ]
    with Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), number)


@pytest.mark.parametrize("fsync", [False, True])
async def test_after_a_roll_that_found_no_room_the_journal_goes_on_by_itself(tmp_path, fsync):
    folder = tmp_path / "journal"
    limits = Limits(max_bytes=1 << 20, segment_bytes=1 << 16, fsync=fsync)
    journal = await opened(folder, limits)
    kept: list[Entry] = []
    with no_room_for_another_file(folder):
        await append_until_refused(journal, kept)
        with pytest.raises(JournalBrokenError, match="expected to begin another file"):
            await journal.append(an_entry(99, os.urandom(9000)))
    for _ in range(9):
        kept.append(an_entry(len(kept), os.urandom(9000)))
        await journal.append(kept[-1])
    assert len(list(folder.glob("*.journal"))) > 1
    assert await everything(journal) == kept
    assert journal.writable() is None
    journal.close()
    assert await everything(await opened(folder)) == kept


async def test_after_writes_that_fell_short_the_journal_goes_on_by_itself(tmp_path):
    journal = await opened(tmp_path)
    kept: list[Entry] = []
    with no_more_bytes_than(20_000):
        await append_until_refused(journal, kept)
    kept.append(an_entry(len(kept)))
    await journal.append(kept[-1])
    assert await everything(journal) == kept
    journal.close()
    assert await everything(await opened(tmp_path)) == kept


async def test_a_failed_write_that_cannot_be_cut_off_is_followed_by_another_file(tmp_path):
    journal = await opened(tmp_path)
    kept = [an_entry(0)]
    await journal.append(kept[0])
    [segment] = tmp_path.glob("*.journal")
    fill_the_disk_under(segment)
    segment.write_bytes(segment.read_bytes() + frame(an_entry(1))[:-1])
    with no_room_for_another_file(tmp_path):
        with pytest.raises(JournalBrokenError, match="No space left"):
            await journal.append(an_entry(2))
        assert "expected to begin another file" in journal.writable()
        with pytest.raises(JournalBrokenError, match="expected to begin another file"):
            journal.check_room()
    kept.append(an_entry(3))
    await journal.append(kept[-1])
    assert await everything(journal) == kept
    journal.close()
    assert await everything(await opened(tmp_path)) == kept


async def test_what_kafka_has_is_forgotten_even_where_its_place_cannot_be_kept(tmp_path):
    journal = await opened(tmp_path)
    for number in range(20):
        await journal.append(an_entry(number, os.urandom(9000)))
    fill_the_disk_under(tmp_path / "acked")
    at = START
    while batch := await journal.read(at):
        at = batch[-1][1]
        journal.ack(at)
    assert len(list(tmp_path.glob("*.journal"))) == 1


async def test_the_place_has_its_room_before_the_disk_is_full(tmp_path):
    await opened(tmp_path)
    assert (tmp_path / "acked").stat().st_size == 16


def damage(path, number):
    """Flip a bit of an entry's payload in a segment of entries of one length."""
    data = bytearray(path.read_bytes())
    data[(number + 1) * len(frame(an_entry(0))) - 1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("spoilt", [0, 2, 4])
async def test_damage_where_it_writes_costs_one_entry_and_the_journal_goes_on(tmp_path, spoilt):
    journal = await opened(tmp_path)
    for number in range(5):
        await journal.append(an_entry(number))
    [segment] = tmp_path.glob("*.journal")
    damage(segment, spoilt)
    left = [an_entry(number) for number in range(5) if number != spoilt]
    assert await everything(journal) == left
    await journal.append(an_entry(5))
    assert await everything(journal) == [*left, an_entry(5)]
    journal.close()
    assert await everything(await opened(tmp_path)) == [*left, an_entry(5)]
    assert len(list(tmp_path.glob("*.damaged"))) == 1


async def test_a_restart_keeps_the_entries_behind_damage(tmp_path):
    journal = await opened(tmp_path)
    for number in range(5):
        await journal.append(an_entry(number))
    journal.close()
    [segment] = tmp_path.glob("*.journal")
    data = bytearray(segment.read_bytes())
    data[len(frame(an_entry(0)))] ^= 255  # the second one's length
    segment.write_bytes(data)
    found = await everything(await opened(tmp_path))
    assert found == [an_entry(number) for number in (0, 2, 3, 4)]


async def test_what_looks_like_an_entry_inside_a_torn_one_is_not_believed(tmp_path):
    journal = await opened(tmp_path)
    await journal.append(an_entry(0))
    journal.close()
    [segment] = tmp_path.glob("*.journal")
    torn = frame(an_entry(1, b"x" + frame(an_entry(2)) + b"y" * 100))[:-1]
    segment.write_bytes(segment.read_bytes() + torn)
    assert await everything(await opened(tmp_path)) == [an_entry(0)]


async def test_syncs_are_shared_and_each_append_waits_for_one_that_began_after_it(
    tmp_path, monkeypatch
):
    began: list[int] = []
    sync = os.fdatasync

    def counted(descriptor):
        began.append(os.fstat(descriptor).st_size)
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", counted)
    journal = await opened(tmp_path, Limits(1 << 20, 1 << 20, fsync=True))

    async def append(number):
        await journal.append(an_entry(number))
        return max(began)

    synced = await asyncio.gather(*(append(number) for number in range(32)))
    length = len(frame(an_entry(0)))
    assert all(size >= (number + 1) * length for number, size in enumerate(synced))
    assert len(began) <= 2


async def test_an_append_during_a_sync_waits_for_the_next_one(tmp_path, monkeypatch):
    go_on, within, count = threading.Event(), asyncio.Event(), iter(range(9))
    loop = asyncio.get_running_loop()

    def held(_descriptor):
        next(count)
        loop.call_soon_threadsafe(within.set)
        assert go_on.wait(20)

    monkeypatch.setattr(os, "fdatasync", held)
    journal = await opened(tmp_path, Limits(1 << 20, 1 << 20, fsync=True))
    first = asyncio.create_task(journal.append(an_entry(0)))
    await within.wait()
    later = [asyncio.create_task(journal.append(an_entry(number))) for number in (1, 2, 3)]
    go_on.set()
    await asyncio.gather(first, *later)
    assert next(count) == 2


async def test_a_long_entry_is_read_off_the_loop(tmp_path, monkeypatch):
    journal = await opened(tmp_path, Limits(1 << 24, 1 << 24, fsync=False))
    long = an_entry(0, os.urandom(3 << 20))
    await journal.append(long)
    await journal.append(an_entry(1))
    threads, to_thread = [], asyncio.to_thread

    async def noted(call, *arguments):
        threads.append(call.__name__)
        return await to_thread(call, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    assert await everything(journal) == [long, an_entry(1)]
    assert threads == ["read_on"]
