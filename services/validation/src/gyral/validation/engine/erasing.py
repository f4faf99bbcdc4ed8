"""Takes a subject's rows out of a table's files, also out of those of older versions."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from gyral.validation.domain.erasing import Traces
from gyral.validation.engine.files import data_files, listed, log_lines, named_by, store_of

_PLACES = ("_partition", "_offset", "_row")
_TAIL_BYTES = 8
"""Behind a Parquet file's footer: its length and the magic."""
_TRIES: tuple[tuple[str, int | None], ...] = (("snappy", None), ("zstd", 9), ("zstd", 22))


@dataclass(frozen=True, slots=True)
class Owned:
    """The rows of one subject whose records lie before these ends of partitions."""

    column: str
    subject: str
    through: Mapping[int, int]

    def among(self, rows: pa.Table | pa.RecordBatch) -> pa.Table | pa.RecordBatch:
        """Return those of these rows."""
        return rows.filter(self.mask(rows))

    def mask(self, rows: pa.Table | pa.RecordBatch) -> pa.ChunkedArray | pa.Array:
        """Tell which of these rows they are, shape (rows,)."""
        before = pa.scalar(False)  # noqa: FBT003 - a value
        for partition, end in self.through.items():
            here = pc.equal(rows["_partition"], partition)
            before = pc.or_(before, pc.and_(here, pc.less(rows["_offset"], end)))
        # As a file's writer had it in memory, a text may be of a type that nothing is equal to.
        theirs = pc.equal(rows[self.column].cast(pa.string()), self.subject)
        return pc.fill_null(pc.and_(theirs, before), False)  # noqa: FBT003 - a value

    @property
    def sql(self) -> str:
        """What tells them, for Delta; the names are a field's and a pseudonym."""
        before = [
            f'("_partition" = {partition} AND "_offset" < {end})'
            for partition, end in sorted(self.through.items())
        ]
        return f"\"{self.column}\" = '{self.subject}' AND ({' OR '.join(before) or 'false'})"


class _File(msgspec.Struct):
    path: str


class _Action(msgspec.Struct):
    """A line of a table's log, as far as files come and go."""

    add: _File | None = None
    remove: _File | None = None


_decode = msgspec.json.Decoder(_Action).decode


class Files:
    """A table's files by the names its log gives them."""

    def __init__(self, uri: str, options: Mapping[str, str]) -> None:
        self._files = store_of(uri, options)

    def traces(self, table: DeltaTable, owned: Owned) -> Traces:
        """Return where rows lie in files that the newest version no longer has.

        A file that no version has is looked at too: a writer died before it could commit it.
        """
        present = named_by(table)
        found = {
            file.path: places
            for file in data_files(listed(self._files))
            if file.path not in present and (places := self._places(file.path, owned))
        }
        return Traces(
            frozenset(place for places in found.values() for place in places),
            self._lifetimes(found, table.version()) if found else {},
        )

    def scrub(self, path: str, owned: Owned) -> None:
        """Write a file anew without these rows, under its name and as long as it was.

        The log says how long each file is, and readers look for its end there. So older
        versions stay readable and lack these rows alone.
        """
        with self._files.open_input_file(path) as file:
            size = file.size()
            table = _plain(pq.read_table(file))
        written = written_within(table.filter(pc.invert(owned.mask(table))), size)
        if written is None:
            self._files.delete_file(path)
            return
        # What pyarrow hands on is no `bytes`, and the store's own stream takes nothing else.
        upload = self._files.handler._handler.open_output_stream(path, None)  # noqa: SLF001
        upload.write(written)
        upload.close()

    def _places(self, path: str, owned: Owned) -> list[tuple[int, int, int]]:
        with self._files.open_input_file(path) as file:
            parquet = pq.ParquetFile(file)
            known = set(parquet.schema_arrow.names)
            if owned.column not in known:
                return []
            wanted = [name for name in (owned.column, *_PLACES) if name in known]
            table = _plain(parquet.read(columns=wanted, use_threads=False))
        rows = owned.among(table)
        columns = [
            rows[name].to_pylist() if name in known else [0] * rows.num_rows for name in _PLACES
        ]
        return [(place[0], place[1], place[2] or 0) for place in zip(*columns, strict=True)]

    def _lifetimes(
        self, paths: Iterable[str], newest: int
    ) -> dict[str, tuple[int, int] | None]:
        """Return between which versions these files were of the table, by its log."""
        lives: dict[str, tuple[int, int] | None] = dict.fromkeys(paths)
        for version in range(newest + 1):
            for action in map(_decode, log_lines(self._files, version)):
                if action.add is not None and action.add.path in lives:
                    lives[action.add.path] = (version, newest + 1)
                elif action.remove is not None and action.remove.path in lives:
                    first, _ = lives[action.remove.path] or (version, version)
                    lives[action.remove.path] = (first, version)
        return lives


def written_within(table: pa.Table, size_bytes: int) -> bytes | None:
    """Return a table as a Parquet file of exactly this size, or None where it needs more.

    What is left over lies between its last page and its footer, where nothing is looked for.
    """
    for codec, level in _TRIES:
        sink = io.BytesIO()
        pq.write_table(
            table,
            sink,
            compression=codec,
            compression_level=level,
            store_schema=False,
            write_statistics=False,
        )
        written = sink.getvalue()
        if len(written) <= size_bytes:
            footer = int.from_bytes(written[-_TAIL_BYTES:-4], "little") + _TAIL_BYTES
            gap = bytes(size_bytes - len(written))
            return written[:-footer] + gap + written[-footer:]
    return None


def _plain(table: pa.Table) -> pa.Table:
    """Return a table whose texts are of the type that everything works on."""
    for at, column in enumerate(table.schema):
        if pa.types.is_string_view(column.type):
            table = table.set_column(at, column.name, table.column(at).cast(pa.string()))
    return table
