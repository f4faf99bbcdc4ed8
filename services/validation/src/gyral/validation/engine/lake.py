"""Delta tables in the object store, each append fenced by the Kafka offsets it came from."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    write_deltalake,
)
from deltalake.exceptions import (
    CommitFailedError,
    DeltaError,
    SchemaMismatchError,
    TableNotFoundError,
)

from gyral.kit.db import is_infrastructure
from gyral.kit.telemetry import get_log

_CONFIGURATION = {
    # Trainings pin versions and predictions point at them: neither files nor log may go.
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.checkpointInterval": "50",
    "delta.dataSkippingNumIndexedCols": "-1",
}
_HOOKS = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
T = TypeVar("T")
Alone = Callable[[str], AbstractAsyncContextManager[bool]]
"""Whether a name is ours alone for a block, among all processes that write the lake."""
log = get_log()


class LakeMovedError(Exception):
    """Another writer committed these offsets meanwhile: judge the batch again."""


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive offsets of one partition: the first and the last."""

    topic: str
    partition: int
    first: int
    last: int

    @property
    def app(self) -> str:
        """The name under which Delta remembers how far this partition got."""
        return f"{self.topic}/{self.partition}"


Offsets = frozenset[tuple[int, int, int]]
"""(partition, offset, index within the record) of rows."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a table has of what is to be written."""

    landed: Offsets = frozenset()
    """Rows a crash left in the table and nowhere else."""
    misfit: str | None = None
    """The first column that has another type in the table."""


@dataclass(slots=True)
class _Table:
    """A handle that stands where our last commit left it, and what it knows at that version.

    Only our own commits move it forward: whatever others commit for our partitions meanwhile
    makes our next append fail, and only then is the table opened anew.
    """

    handle: DeltaTable
    reached: dict[str, int] = field(default_factory=dict)
    fits: pa.Schema | None = None
    """The columns that were last found to fit."""

    def written(self, app: str) -> int:
        """Return the last offset of a partition that the table has, or -1."""
        if app not in self.reached:
            found = self.handle.transaction_version(app)
            self.reached[app] = -1 if found is None else found
        return self.reached[app]

    def misfit(self, wanted: pa.Schema) -> str | None:
        """Return the first column that has another type in the table."""
        if self.fits is wanted:
            return None
        have = pa.schema(self.handle.schema().to_arrow())
        for column in wanted:
            if column.name not in have.names:
                continue
            known = have.field(column.name).type
            if _family(known) != _family(column.type):
                return f"{column.name}: expected {known} as in the table; found {column.type}"
        self.fits = wanted
        return None


class Lake:
    """The tables under one address, each written by whoever owns its rows' partitions."""

    def __init__(
        self,
        root: str,
        options: Mapping[str, str],
        *,
        alone: Alone,
        compact_every: int = 20,
    ) -> None:
        self.root = root
        self._options = dict(options)
        self._alone = alone
        self._compact_every = compact_every
        self._tables: dict[str, _Table] = {}
        self._appends: dict[str, int] = {}
        self._compacting: dict[str, asyncio.Task[None]] = {}

    def uri(self, name: str) -> str:
        """Return where a table lies."""
        return f"{self.root}/{name}"

    async def version(self, name: str) -> int | None:
        """Return a table's latest version, or None while it has none."""
        return await self._run(name, lambda: self._latest(name))

    async def survey(
        self, name: str, spans: Sequence[Span], wanted: pa.Schema | None = None
    ) -> Survey:
        """Return which of these offsets a table has, and whether new columns fit it."""
        return await self._run(name, lambda: self._survey(name, spans, wanted))

    async def append(self, name: str, rows: pa.Table, spans: Sequence[Span]) -> int:
        """Append rows of these offsets in one commit and return the table's version.

        Raises:
            LakeMovedError: another writer was faster; nothing was appended.
        """
        version = await self._run(name, lambda: self._append(name, rows, spans))
        self._appends[name] = self._appends.get(name, 0) + 1
        if self._appends[name] >= self._compact_every and name not in self._compacting:
            self._appends[name] = 0
            task = asyncio.create_task(self._compact(name), name=f"compact {name}")
            self._compacting[name] = task
            task.add_done_callback(lambda _: self._compacting.pop(name, None))
        return version

    async def drain(self) -> None:
        """Return once no compaction runs."""
        await asyncio.gather(*self._compacting.values(), return_exceptions=True)

    async def _run(self, name: str, call: Callable[[], T]) -> T:
        """Run in a thread; the store being away is one kind of error: OSError."""
        try:
            return await asyncio.to_thread(call)
        except CommitFailedError as error:
            self._tables.pop(name, None)
            raise LakeMovedError(f"{name}: {error}") from error
        except SchemaMismatchError:
            raise
        except (DeltaError, OSError) as error:
            self._tables.pop(name, None)
            raise ConnectionError(f"lake {name}: {type(error).__name__}: {error}") from error

    def _open(self, name: str) -> _Table | None:
        """Return our handle as our last commit left it, opening the table if need be."""
        known = self._tables.get(name)
        if known is None:
            try:
                handle = DeltaTable(self.uri(name), storage_options=self._options)
            except TableNotFoundError:
                return None
            known = self._tables[name] = _Table(handle)
        return known

    def _survey(self, name: str, spans: Sequence[Span], wanted: pa.Schema | None) -> Survey:
        table = self._open(name)
        if table is None:
            return Survey()
        landed: set[tuple[int, int, int]] = set()
        for span in spans:
            if table.written(span.app) >= span.first:
                landed |= _rows_of(table.handle, span)
        misfit = None if wanted is None else table.misfit(wanted)
        return Survey(frozenset(landed), misfit)

    def _append(self, name: str, rows: pa.Table, spans: Sequence[Span]) -> int:
        table = self._tables.get(name) or self._first(name, rows.schema, spans)
        reached = {span.app: max(span.last, table.written(span.app)) for span in spans}
        write_deltalake(
            table.handle,
            rows,
            mode="append",
            schema_mode="merge",
            commit_properties=CommitProperties(
                app_transactions=[Transaction(app, last) for app, last in reached.items()]
            ),
            post_commithook_properties=_HOOKS,
        )
        # The handle has moved, past what others committed too: of their partitions ask anew.
        table.reached = reached
        return table.handle.version()

    def _first(self, name: str, schema: pa.Schema, spans: Sequence[Span]) -> _Table:
        """Return the table that was missing when it was surveyed, as nobody has written to it.

        Raises:
            LakeMovedError: another writer made it meanwhile, and committed these offsets.
        """
        table = self._open(name) or self._create(name, schema)
        for span in spans:
            if table.written(span.app) >= span.first:
                reached = f"{span.app} reached {table.written(span.app)}"
                raise LakeMovedError(
                    f"{name}: expected nothing from {span.first} on; {reached}"
                )
        return table

    def _create(self, name: str, schema: pa.Schema) -> _Table:
        handle = DeltaTable.create(
            self.uri(name),
            schema,
            mode="ignore",
            configuration=_CONFIGURATION,
            storage_options=self._options,
        )
        created = self._tables[name] = _Table(handle)
        return created

    def _latest(self, name: str) -> int | None:
        try:
            return DeltaTable(self.uri(name), storage_options=self._options).version()
        except TableNotFoundError:
            return None

    async def _compact(self, name: str) -> None:
        """Merge small files, unless another process does; old versions keep theirs.

        Delta refuses an append that overlaps another, but no compaction that overlaps one: both
        would commit, and the rows of the files they share be there twice.
        """
        try:
            async with self._alone(f"compact {name}") as ours:
                if ours:
                    await _to_its_end(lambda: self._merge_files(name))
        except Exception as error:
            if not isinstance(error, DeltaError) and not is_infrastructure(error):
                raise
            log.warning("lake.compaction_failed", table=name, error=type(error).__name__)

    def _merge_files(self, name: str) -> None:
        table = DeltaTable(self.uri(name), storage_options=self._options)
        table.optimize.compact(max_concurrent_tasks=1, post_commithook_properties=_HOOKS)


async def _to_its_end(call: Callable[[], None]) -> None:
    """Run in a thread and outlast it even when cancelled: no thread can be."""
    work = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        await asyncio.shield(work)
    finally:
        await asyncio.wait({work})


def _rows_of(table: DeltaTable, span: Span) -> set[tuple[int, int, int]]:
    there = (
        (ds.field("_topic") == span.topic)
        & (ds.field("_partition") == span.partition)
        & (ds.field("_offset") >= span.first)
        & (ds.field("_offset") <= span.last)
    )
    dataset = table.to_pyarrow_dataset()
    placed = [name for name in ("_offset", "_row") if name in dataset.schema.names]
    rows = dataset.to_table(columns=placed, filter=there)
    offsets = rows["_offset"].to_pylist()
    indices = rows["_row"].to_pylist() if "_row" in placed else [0] * len(offsets)
    return {
        (span.partition, offset, index or 0)
        for offset, index in zip(offsets, indices, strict=True)
    }


def _family(kind: pa.DataType) -> str:
    """Return what Arrow type a column is, whatever its layout in memory."""
    text = str(kind)
    return "string" if text in ("string", "large_string", "string_view") else text
