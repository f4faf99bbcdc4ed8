"""Keeps tables in shape beside their writers: small files merged, old rows dropped."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, WriterProperties
from deltalake.exceptions import CommitFailedError, DeltaError

from gyral.kit.db import is_infrastructure
from gyral.kit.telemetry import get_log
from gyral.modelling.contents import Content
from gyral.validation.engine.measures import Measures
from gyral.validation.engine.reading import held

CONFIGURATION = {
    # Our own vacuum does not ask for it. This only says for how long a checkpoint names the
    # files that were merged away; for ever, and each is longer than the last.
    "delta.deletedFileRetentionDuration": "interval 1 hours",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.checkpointInterval": "50",
    "delta.dataSkippingNumIndexedCols": "-1",
}
HOOKS = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
ENCODING = WriterProperties(dictionary_page_size_limit=1 << 16)
"""A dictionary of more than 8,192 numbers takes longer to make than all else of a file, and
files that are merged are too large to keep one."""
SMALLEST_BYTES = 1 << 18
_GROWTH = 8
_LEVELS = 4
"""The largest files are of 128 MiB."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Alone = Callable[[str], AbstractAsyncContextManager[bool]]
"""Whether a name is ours alone for a block, among all processes that write the lake."""
T = TypeVar("T")
log = get_log()


def target_bytes(times: int) -> int:
    """Return up to which size files are merged at the n-th time, n from 1 on.

    Mostly small files are merged among themselves; at every eighth time those of the next
    size, and so on. So a row is written again only a few times a level, however many small
    commits there are, and each level keeps a bounded number of files.
    """
    level = 0
    while level < _LEVELS - 1 and times % _GROWTH == 0:
        times //= _GROWTH
        level += 1
    return SMALLEST_BYTES * int(_GROWTH**level)


def upkeep_of(table: str) -> str:
    """Return the name under which whatever rewrites a table's files is done alone."""
    return f"upkeep {table}"


async def to_its_end(call: Callable[[], T]) -> T:
    """Run in a thread and outlast it even when cancelled: no thread can be."""
    work = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(work)
    finally:
        await asyncio.wait({work})


class Upkeep:
    """Merges small files every so many commits, one table at a time, one process a table."""

    def __init__(
        self,
        newest: Callable[[str], DeltaTable],
        measures: Measures,
        alone: Alone,
        *,
        every: int,
    ) -> None:
        self._newest = newest
        self._measures = measures
        self._alone = alone
        self._every = every
        self._commits: dict[str, int] = {}
        self._times: dict[str, int] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._one = asyncio.Lock()

    def committed(self, name: str) -> None:
        """Count a commit; begin to merge files in the background when it is time."""
        self._commits[name] = self._commits.get(name, 0) + 1
        if self._commits[name] < self._every or name in self._running:
            return
        self._commits[name] = 0
        task = asyncio.create_task(self._compact(name), name=f"compact {name}")
        self._running[name] = task
        task.add_done_callback(lambda _: self._running.pop(name, None))

    async def drain(self) -> None:
        """Return once no compaction runs."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _compact(self, name: str) -> None:
        """Merge small files, unless another process does; old versions keep theirs.

        Delta refuses an append that overlaps another, but no compaction that overlaps one: both
        would commit, and the rows of the files they share be there twice.
        """
        try:
            async with self._one, self._alone(upkeep_of(name)) as ours:
                if not ours:
                    return
                self._times[name] = self._times.get(name, 0) + 1
                target = target_bytes(self._times[name])
                merged = await to_its_end(lambda: self._merge(name, target))
            self._measures.compacted(name, "merged" if merged else "not needed")
        except CommitFailedError:
            self._measures.compacted(name, "overtaken")
        except Exception as error:
            if not isinstance(error, DeltaError) and not is_infrastructure(error):
                raise
            self._measures.compacted(name, "failed")
            log.warning("lake.compaction_failed", table=name, error=type(error).__name__)

    def _merge(self, name: str, target: int) -> bool:
        table = self._newest(name)
        kept = table.metadata().configuration
        stale = {key: text for key, text in CONFIGURATION.items() if kept.get(key) != text}
        if stale:
            table.alter.set_table_properties(stale)
        said = table.optimize.compact(
            target_size=target, max_concurrent_tasks=1, post_commithook_properties=HOOKS
        )
        files = pa.table(table.get_add_actions(flatten=True))
        self._measures.shape(
            name,
            files=files.num_rows,
            size_bytes=pc.sum(files["size_bytes"]).as_py() or 0,
            rows=pc.sum(files["num_records"]).as_py() or 0,
        )
        return bool(said["numFilesAdded"])


def drop_older(
    table: DeltaTable,
    column: str,
    before_us: int,
    told: Callable[[Content], Mapping[str, str]],
) -> int | None:
    """Delete rows whose time lies before a moment; return the version, or None if none does.

    The rows are counted and deleted in one version: what others append meanwhile is in
    neither, and whatever rewrites the same files first makes this commit fail.
    """
    moment = pa.scalar(_EPOCH + timedelta(microseconds=before_us), pa.timestamp("us", "UTC"))
    facts = {"gyral.column": column, "gyral.before_us": str(before_us)}
    sql = f'"{column}" < arrow_cast({before_us}, \'Timestamp(Microsecond, Some("UTC"))\')'
    going = held(table, ds.field(column) < moment)
    return drop(table, going, sql, lambda going: {**told(going), **facts})


def drop(
    table: DeltaTable,
    going: Content,
    sql: str,
    told: Callable[[Content], Mapping[str, str]],
) -> int | None:
    """Delete rows of this content; return the version, or None where there are none."""
    if not going.rows:
        return None
    facts = {**told(going), "gyral.read_version": str(table.version())}
    table.delete(
        sql,
        commit_properties=CommitProperties(custom_metadata=facts),
        post_commithook_properties=HOOKS,
    )
    return table.version()
