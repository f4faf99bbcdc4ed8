"""The journal's files: framed entries, each with its length and checksum, torn ends cut off."""

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from gyral.kit.telemetry import get_log

_HEADER = Struct("<IIBq36s")
"""Payload bytes; CRC-32 of what follows it and the payload; kind; microseconds UTC; id."""
_CHECKED_FROM = 8
SUFFIX = ".journal"
log = get_log()


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to be said on Kafka."""

    kind: int
    """What the payload is, from 0 to 255, as its writer numbers them."""
    id: str
    """36 ASCII characters: a UUID."""
    time_us: int
    payload: bytes


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place between two entries."""

    segment: int
    offset: int


def frame(entry: Entry) -> bytes:
    """Return an entry as it lies on the disk."""
    rest = _HEADER.pack(0, 0, entry.kind, entry.time_us, entry.id.encode())[_CHECKED_FROM:]
    checksum = zlib.crc32(entry.payload, zlib.crc32(rest))
    return (
        len(entry.payload).to_bytes(4, "little")
        + checksum.to_bytes(4, "little")
        + rest
        + entry.payload
    )


def entries(data: bytes) -> Iterator[tuple[Entry, int]]:
    """Yield whole entries and the offset behind each, up to the first that is damaged."""
    start = 0
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


def path_of(folder: Path, segment: int) -> Path:
    """Return where a segment lies."""
    return folder / f"{segment:012d}{SUFFIX}"


def numbers(folder: Path) -> list[int]:
    """Return the numbers of the segments there are, oldest first."""
    return sorted(int(path.stem) for path in folder.glob(f"*{SUFFIX}"))


def cut_torn_end(path: Path) -> int:
    """Cut off what a killed process left half-written, and return the bytes that remain."""
    data = path.read_bytes()
    whole = 0
    for _, end in entries(data):
        whole = end
    if whole < len(data):
        log.warning("journal.torn_end_cut", segment=path.name, dropped_bytes=len(data) - whole)
        os.truncate(path, whole)
    return whole


def sync_folder(folder: Path) -> None:
    """Have new names in a folder survive the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
