"""Journals for tests: small ones, and all that one holds."""

from gyral.kit.journal import Journal, Limits
from gyral.kit.segments import Entry, Position

LIMITS = Limits(max_bytes=1 << 20, segment_bytes=1 << 16, fsync=False)


def an_entry(number, payload=b"{}", kind=1):
    return Entry(kind, f"00000000-0000-4000-8000-{number:012d}", number, payload)


async def opened(folder, limits=LIMITS):
    journal = Journal(folder, limits)
    await journal.open(patience_s=0)
    return journal


START = Position(0, 0)


async def everything(journal, start=START):
    found = []
    while batch := await journal.read(start):
        found += [entry for entry, _ in batch]
        start = batch[-1][1]
    return found
