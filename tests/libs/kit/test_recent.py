"""What is kept in memory of a journal is what lies in it, without a gap."""

import os

from hypothesis import given
from hypothesis import strategies as st

from gyral.kit.journal import Limits
from gyral.kit.recent import Recent
from gyral.kit.segments import Entry, Position
from tests.libs.kit.journals import an_entry, everything, opened

BEGIN = Position(1, 0)
sizes = st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=4), max_size=12)


@given(appended=sizes, reads=st.lists(st.booleans(), min_size=12, max_size=12))
def test_a_reader_gets_the_next_entries_or_none(appended, reads):
    recent, read_up_to = Recent(100, BEGIN), BEGIN
    caught_up = BEGIN
    there: list[tuple[Entry, Position]] = []
    for batch, reads_now in zip(appended, reads, strict=False):
        kept: list[tuple[Entry, Position]] = []
        for size in batch:
            number = len(there) + len(kept)
            kept.append((an_entry(number, b"x" * size), Position(1, number + 1)))
        recent.keep(kept)
        there += kept
        found = recent.after(read_up_to)
        waiting = there[read_up_to.offset :]
        if found:
            assert found == waiting
        elif read_up_to == caught_up:
            assert sum(len(entry.payload) for entry, _ in waiting) > 100
        if reads_now:
            read_up_to = caught_up = there[-1][1]
            recent.forget(read_up_to)


def test_beyond_the_limit_all_are_forgotten_until_the_reader_has_caught_up():
    recent = Recent(10, BEGIN)
    first, second, third = (
        (an_entry(number, b"x" * 6), Position(1, number + 1)) for number in range(3)
    )
    recent.keep([first])
    assert recent.after(BEGIN) == [first]
    recent.keep([second])
    assert recent.after(BEGIN) == []
    recent.keep([third])
    assert recent.after(BEGIN) == []
    recent.forget(second[1])
    assert recent.after(second[1]) == [third]


async def test_a_reader_that_keeps_up_needs_no_file(tmp_path):
    journal = await opened(tmp_path, Limits(1 << 20, 1 << 16, fsync=False))
    await journal.append(an_entry(0))
    [(_, position)] = await journal.read(journal.acked)
    journal.ack(position)
    later = [an_entry(number, os.urandom(9000)) for number in range(1, 20)]
    for entry in later:
        await journal.append(entry)
    for segment in tmp_path.glob("*.journal"):
        os.truncate(segment, 0)
    assert await everything(journal, journal.acked) == later
