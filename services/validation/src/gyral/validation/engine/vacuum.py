"""Removes files that no version needs any more which anybody may still read."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from pyarrow.fs import FileInfo

from gyral.validation.engine.files import data_files, listed, named_by, store_of

MOST_FILES = 1_000
"""Files removed at once: far within the time for which a table is held."""
_COMMITTED = timedelta(hours=1)
"""Between the writing of a file and its commit lies less, whatever was written."""
_COMMIT = re.compile(r"_delta_log/(\d{20})\.json")


@dataclass(frozen=True, slots=True)
class Swept:
    """What a vacuum removed."""

    files: int = 0
    size_bytes: int = 0


def sweep(
    uri: str, options: Mapping[str, str], *, pinned: Sequence[int], before: datetime
) -> Swept:
    """Remove the files of a table that only old versions consist of.

    Spared is what the newest version consists of, any that was the newest since `before`, and
    those that are pinned. All of it is known before the first file goes, no version is written,
    and what is left over when this ends anywhere is found the next time.

    Args:
        uri: where the table lies.
        options: of the store.
        pinned: versions that must stay readable.
        before: readers of a version that was replaced after this moment are not disturbed.

    Raises:
        Exception: a pinned version cannot be read; nothing was removed.
    """
    try:
        newest = DeltaTable(uri, storage_options=dict(options))
    except TableNotFoundError:
        return Swept()
    store = store_of(uri, options)
    found = listed(store)
    reached = _version_at(found, before)
    if reached is None:
        return Swept()
    spared = named_by(newest)
    for version in {reached, *pinned}:
        spared |= named_by(DeltaTable(uri, version=version, storage_options=dict(options)))
    going = [
        file
        for file in data_files(found)
        if not file.path.startswith("_")
        and file.path not in spared
        and file.mtime < before - _COMMITTED
    ][:MOST_FILES]
    for file in going:
        store.delete_file(file.path)
    return Swept(len(going), sum(file.size for file in going))


def _version_at(found: Sequence[FileInfo], moment: datetime) -> int | None:
    """Return which version was the newest at a moment, or None before the first."""
    versions = [
        int(match[1])
        for file in found
        if (match := _COMMIT.fullmatch(file.path)) and file.mtime <= moment
    ]
    return max(versions, default=None)
