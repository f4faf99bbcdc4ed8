"""The journal's files: framed entries, each with its length and checksum, torn ends cut off."""

import os
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

import msgspec

from gyral.kit.telemetry import get_log

_HEADER = Struct("<IIBq36s")
"""Payload bytes; CRC-32 of what follows it and the payload; kind; microseconds UTC; id."""
_SIZES, _CHECKED = Struct("<II"), Struct("<Bq36s")
"""Its two parts."""
_CHECKED_FROM = _SIZES.size
_ID_AT = 17
_ID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
SUFFIX = ".journal"
DAMAGED = ".damaged"
log = get_log()


class Entry(msgspec.Struct, frozen=True, gc=False):
    """Something to be said on Kafka."""

    kind: int
    """What the payload is, from 0 to 255, as its writer numbers them."""
    id: str
    """36 ASCII characters: a UUID."""
    time_us: int
    payload: bytes


class Position(msgspec.Struct, frozen=True, order=True, gc=False):
    """A place between two entries."""

    segment: int
    offset: int


def frame(entry: Entry) -> bytes:
    """Return an entry as it lies on the disk."""
    payload = entry.payload
    rest = _CHECKED.pack(entry.kind, entry.time_us, entry.id.encode())
    checksum = zlib.crc32(payload, zlib.crc32(rest))
    return _SIZES.pack(len(payload), checksum) + rest + payload


def entries(data: bytes, start: int = 0) -> Iterator[tuple[Entry, int]]:
    """Yield whole entries and the offset behind each, up to the first that is damaged."""
    while len(data) - start >= _HEADER.size:
        size, checksum, kind, time_us, id_ = _HEADER.unpack_from(data, start)
        end = start + _HEADER.size + size
        if end > len(data):
            return
        checked = memoryview(data)[start + _CHECKED_FROM : end]
        if zlib.crc32(checked) != checksum:
            return
        payload = data[start + _HEADER.size : end]
        yield Entry(kind, id_.decode(), time_us, payload), end
        start = end


def behind(data: bytes, damaged: int) -> int:
    """Return where whole entries go on behind a damaged one, or the end when they do not.

    Only entries that run to the very end are believed: what merely looks like an entry inside
    a torn payload is its sender's word, not the journal's.
    """
    for start in _starts(data, damaged):
        if _whole_to_end(data, start):
            return start
    return len(data)


def _starts(data: bytes, damaged: int) -> Iterator[int]:
    """Yield where an entry may begin: behind the damaged one's own length, then at each id."""
    yield _declared_end(data, damaged)
    for found in _ID.finditer(data, damaged + _ID_AT + 1):
        yield found.start() - _ID_AT


def _declared_end(data: bytes, start: int) -> int:
    return start + _HEADER.size + int.from_bytes(data[start : start + 4], "little")


def _whole_to_end(data: bytes, start: int) -> bool:
    end = start
    while len(data) - end >= _HEADER.size:  # lengths cost little: they come before checksums
        end = _declared_end(data, end)
    if end != len(data):
        return False
    return _last_end(data, start) == len(data)


def _last_end(data: bytes, start: int) -> int:
    return max((end for _, end in entries(data, start)), default=start)


def read_some(path: Path, offset: int, size_bytes: int) -> list[tuple[Entry, int]]:
    """Return the whole entries among so many bytes, each with the offset behind it."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(size_bytes)
    return [(entry, offset + end) for entry, end in entries(data)]


def read_on(path: Path, offset: int, size: int) -> tuple[int, list[tuple[Entry, int]]]:
    """Return an entry of any length, or the bytes lost to damage and the entries behind it.

    Args:
        path: of the segment.
        offset: where an entry begins.
        size: of the segment in bytes; beyond it nothing is looked at.
    """
    with path.open("rb") as file:
        file.seek(offset)
        declared = _declared_end(file.read(4), 0)
    found = read_some(path, offset, declared) if offset + declared <= size else []
    if found:
        return 0, found
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(size - offset)
    start = behind(data, 0)
    found = [(entry, offset + end) for entry, end in entries(data, start)]
    return (start if found else size - offset), found


def path_of(folder: Path, segment: int) -> Path:
    """Return where a segment lies."""
    return folder / f"{segment:012d}{SUFFIX}"


def numbers(folder: Path) -> list[int]:
    """Return the numbers of the segments there are, oldest first."""
    return sorted(int(path.stem) for path in folder.glob(f"*{SUFFIX}"))


def cut_torn_end(path: Path) -> int:
    """Cut off what a killed process left half-written, and return the bytes that remain.

    Damage with whole entries behind it stays, for the reader to step over; damage without is
    cut off as well, with a copy kept for a person.
    """
    data = path.read_bytes()
    whole = _last_end(data, 0)
    lost = len(data) - whole
    if lost == 0:
        return whole
    if behind(data, whole) < len(data):
        return len(data)
    if lost >= _HEADER.size and _declared_end(data, whole) <= len(data):
        copy = path.with_suffix(DAMAGED)
        copy.unlink(missing_ok=True)  # it may be this very file, under its second name
        shutil.copyfile(path, copy)
        log.critical("journal.damaged", segment=path.name, offset=whole, lost_bytes=lost)
    else:
        log.warning("journal.torn_end_cut", segment=path.name, dropped_bytes=lost)
    os.truncate(path, whole)
    return whole


def sync_folder(folder: Path) -> None:
    """Have new names in a folder survive the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
