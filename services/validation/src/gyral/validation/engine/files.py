"""A table as files in its store: the log, a file a version, and the data that versions name."""

from collections.abc import Iterator, Mapping

from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileInfo, FileSelector, FileType, PyFileSystem

_LOG = "_delta_log/"


def store_of(uri: str, options: Mapping[str, str]) -> PyFileSystem:
    """Return the store below a table, which names files as the table's log does."""
    return PyFileSystem(DeltaStorageHandler(uri, dict(options)))


def log_lines(store: PyFileSystem, version: int) -> list[bytes]:
    """Return the actions of a version, a line each.

    Raises:
        FileNotFoundError: the log has no such version.
    """
    with store.open_input_stream(f"{_LOG}{version:020d}.json") as file:
        lines: list[bytes] = file.read().splitlines()
    return lines


def listed(store: PyFileSystem) -> list[FileInfo]:
    """Return whatever lies below a table."""
    found: list[FileInfo] = store.get_file_info(FileSelector("", recursive=True))
    return found


def data_files(found: list[FileInfo]) -> Iterator[FileInfo]:
    """Yield those of these that hold rows, be they of a version or of none."""
    for file in found:
        of_data = file.path.endswith(".parquet") and not file.path.startswith(_LOG)
        if file.type is FileType.File and of_data:
            yield file


def named_by(table: DeltaTable) -> set[str]:
    """Return the data files that a version consists of."""
    return {str(path) for path in table.get_add_actions(flatten=True)["path"].to_pylist()}
