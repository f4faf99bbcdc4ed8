"""Delta tables in the object store, each append fenced by the Kafka offsets it came from."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import (
    CommitFailedError,
    DeltaError,
    SchemaMismatchError,
    TableNotFoundError,
)

from gyral.modelling.contents import Content
from gyral.validation.domain.erasing import Traces
from gyral.validation.engine.erasing import Files, Owned
from gyral.validation.engine.measures import Measures
from gyral.validation.engine.reading import (
    PLACES,
    Commit,
    Offsets,
    Span,
    commits,
    held,
    rows_of,
)
from gyral.validation.engine.upkeep import (
    CONFIGURATION,
    ENCODING,
    HOOKS,
    Alone,
    Upkeep,
    drop,
    drop_older,
    to_its_end,
    upkeep_of,
)
from gyral.validation.engine.vacuum import Swept, sweep

T = TypeVar("T")


class LakeMovedError(Exception):
    """Another writer committed these offsets meanwhile: judge the batch again."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a table has of what is to be written."""

    landed: Offsets = frozenset()
    """Rows a crash left in the table and nowhere else."""
    decided: Mapping[int, int] = field(default_factory=dict)
    """By partition, the offset up to which it is settled which rows the table has."""
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

    def is_before(self, spans: Sequence[Span], wanted: pa.Schema | None) -> bool:
        """Tell that it is known to have nothing of these, and columns known to fit."""
        if wanted is not None and self.fits is not wanted:
            return False
        return all(self.reached.get(span.app, span.last) < span.first for span in spans)

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
        self._tables: dict[str, _Table] = {}
        self._measures = Measures()
        self._upkeep = Upkeep(self._newest, self._measures, alone, every=compact_every)

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
        known = self._tables.get(name)
        if known and known.is_before(spans, wanted):
            return Survey(decided={span.partition: known.reached[span.app] for span in spans})
        return await self._run(name, lambda: self._survey(name, spans, wanted))

    async def append(
        self,
        name: str,
        rows: pa.Table,
        spans: Sequence[Span],
        metadata: Mapping[str, str] | None = None,
    ) -> int:
        """Append rows of these offsets in one commit and return the table's version.

        Raises:
            LakeMovedError: another writer was faster; nothing was appended.
        """
        facts = dict(metadata or {})
        with self._measures.commit(name):
            version = await self._run(name, lambda: self._append(name, rows, spans, facts))
        self._upkeep.committed(name)
        return version

    async def settle(
        self,
        name: str,
        columns: pa.Schema,
        spans: Sequence[Span],
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Settle that the table gets no further row of these offsets, whoever holds some.

        A process that stood still and goes on may have judged them otherwise, and without this
        there would be nothing of ours for it to stumble over.

        Args:
            name: the table; it is made when there is none.
            columns: what it is made with.
            spans: the offsets.
            metadata: what to write down with the commit, where there has to be one.

        Raises:
            LakeMovedError: another writer was faster; nothing was settled.
        """
        known = self._tables.get(name)
        if known and all(known.reached.get(span.app, -1) >= span.last for span in spans):
            return
        facts = dict(metadata or {})
        await self._run(name, lambda: self._settle(name, columns, spans, facts))

    async def commits(self, name: str, after: int, until: int) -> list[Commit]:
        """Return the commits of versions `after` + 1 to `until`, as far as the log has them."""
        return await self._run(
            name, lambda: commits(self.uri(name), self._options, after, until)
        )

    async def content(self, name: str, version: int) -> Content:
        """Return what a version of a table holds, by reading it."""
        return await self._run(name, lambda: held(self._version(name, version)))

    async def retire(
        self,
        name: str,
        column: str,
        before_us: int,
        told: Callable[[Content], Mapping[str, str]],
    ) -> int | None:
        """Drop rows whose time lies before a moment; return the version, or None.

        Args:
            name: the table.
            column: its time.
            before_us: the moment, in microseconds UTC.
            told: what to write down with the commit, of the rows that go.

        Raises:
            LakeMovedError: another writer was faster; nothing was dropped.
        """
        async with self._ours(name):
            return await self._run(
                name, lambda: self._drop_older(name, column, before_us, told)
            )

    async def vacuum(self, name: str, pinned: Sequence[int], before: datetime) -> Swept:
        """Remove files that no version needs but old ones nobody pinned; see `sweep`.

        Raises:
            LakeMovedError: another process works on the table's files; nothing was removed.
        """
        async with self._ours(name):
            swept = await self._run(
                name,
                lambda: sweep(self.uri(name), self._options, pinned=pinned, before=before),
            )
        self._measures.vacuumed(name, files=swept.files, size_bytes=swept.size_bytes)
        return swept

    async def erase(
        self, name: str, owned: Owned, told: Callable[[Content], Mapping[str, str]]
    ) -> int | None:
        """Drop a subject's rows; return the version, or None. The table is ours alone.

        Raises:
            LakeMovedError: another writer was faster; nothing was dropped.
        """

        def drop_owned() -> int | None:
            table = self._found(name)
            if table is None:
                return None
            return drop(table, held(table, among=owned.among), owned.sql, told)

        return await self._run(name, drop_owned)

    async def traces(self, name: str, owned: Owned) -> Traces:
        """Return where a subject's rows lie in what only older versions have."""

        def look() -> Traces:
            table = self._found(name)
            none = Traces(frozenset(), {})
            files = Files(self.uri(name), self._options)
            return none if table is None else files.traces(table, owned)

        return await self._run(name, look)

    async def scrub(self, name: str, path: str, owned: Owned) -> None:
        """Take a subject's rows out of a file that only older versions have."""
        await self._run(name, lambda: Files(self.uri(name), self._options).scrub(path, owned))

    async def drain(self) -> None:
        """Return once no compaction runs."""
        await self._upkeep.drain()

    @asynccontextmanager
    async def _ours(self, name: str) -> AsyncIterator[None]:
        """Have a table's files to ourselves for a block.

        Raises:
            LakeMovedError: another process works on them.
        """
        async with self._alone(upkeep_of(name)) as ours:
            if not ours:
                raise LakeMovedError(f"{name}: another process works on it")
            yield

    async def _run(self, name: str, call: Callable[[], T]) -> T:
        """Run in a thread; the store being away is one kind of error: OSError."""
        try:
            return await to_its_end(call)
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
                landed |= rows_of(table.handle, span)
        misfit = None if wanted is None else table.misfit(wanted)
        decided = {span.partition: table.written(span.app) for span in spans}
        return Survey(frozenset(landed), decided, misfit)

    def _append(
        self, name: str, rows: pa.Table, spans: Sequence[Span], facts: dict[str, str]
    ) -> int:
        table = self._tables.get(name) or self._first(name, rows.schema, spans)
        reached = {span.app: max(span.last, table.written(span.app)) for span in spans}
        write_deltalake(
            table.handle,
            rows,
            mode="append",
            schema_mode="merge",
            commit_properties=CommitProperties(
                custom_metadata=facts,
                app_transactions=[Transaction(app, last) for app, last in reached.items()],
            ),
            post_commithook_properties=HOOKS,
            writer_properties=ENCODING,
        )
        # The handle has moved, past what others committed too: of their partitions ask anew.
        table.reached = reached
        return table.handle.version()

    def _settle(
        self, name: str, columns: pa.Schema, spans: Sequence[Span], facts: dict[str, str]
    ) -> None:
        table = self._open(name) or self._create(name, columns)
        open_ = [span for span in spans if table.written(span.app) < span.last]
        if open_:
            self._append(name, PLACES.empty_table(), open_, facts)

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
            configuration=CONFIGURATION,
            storage_options=self._options,
        )
        created = self._tables[name] = _Table(handle)
        return created

    def _latest(self, name: str) -> int | None:
        table = self._found(name)
        return None if table is None else table.version()

    def _drop_older(
        self,
        name: str,
        column: str,
        before_us: int,
        told: Callable[[Content], Mapping[str, str]],
    ) -> int | None:
        table = self._found(name)
        return None if table is None else drop_older(table, column, before_us, told)

    def _found(self, name: str) -> DeltaTable | None:
        try:
            return self._newest(name)
        except TableNotFoundError:
            return None

    def _newest(self, name: str) -> DeltaTable:
        return DeltaTable(self.uri(name), storage_options=self._options)

    def _version(self, name: str, version: int) -> DeltaTable:
        return DeltaTable(self.uri(name), version=version, storage_options=self._options)


def _family(kind: pa.DataType) -> str:
    """Return what Arrow type a column is, whatever its layout in memory."""
    text = str(kind)
    return "string" if text in ("string", "large_string", "string_view") else text
