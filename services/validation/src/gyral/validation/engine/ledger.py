"""Adds up what commits of the lake say they brought, so that no table has to be read."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from uuid import UUID

import pyarrow as pa

from gyral.modelling.contents import Content
from gyral.validation.domain.standing import Change, Standing
from gyral.validation.engine.erasing import Owned
from gyral.validation.engine.lake import Lake
from gyral.validation.engine.reading import Commit, Span

_CONTENT = "gyral.content"
_ROWS = "gyral.rows"
_SCHEMA = "gyral.schema_version"
_NO_ROWS = frozenset({"CREATE TABLE", "OPTIMIZE", "SET TBLPROPERTIES"})
"""Operations that leave a table's rows as they are."""

_MOST_COMMITS = 5_000
"""Beyond so many, reading the table once is cheaper."""

Remembered = Callable[[str], Awaitable[Standing | None]]


class Ledger:
    """Where tables stand: each commit carries its own change, so a crash loses none of them.

    What others commit meanwhile is read from the log, a small file a commit. Only where a
    commit does not say what it did, the table itself is read, once.
    """

    def __init__(self, lake: Lake, remembered: Remembered) -> None:
        self._lake = lake
        self._remembered = remembered
        self._known: dict[str, Standing] = {}

    async def append(
        self, name: str, rows: pa.Table, spans: Sequence[Span], change: Change
    ) -> Standing:
        """Append rows of these offsets in one commit and return where the table stands then.

        Raises:
            LakeMovedError: another writer was faster; nothing was appended.
        """
        version = await self._lake.append(name, rows, spans, metadata=_told(change))
        known = self._known.get(name)
        if known is not None and known.version == version - 1:
            self._known[name] = known.after([change])
            return self._known[name]
        return await self._at(name, version)

    async def settle(self, name: str, columns: pa.Schema, spans: Sequence[Span]) -> None:
        """Settle that the table gets no further row of these offsets; see `Lake.settle`.

        Raises:
            LakeMovedError: another writer was faster; nothing was settled.
        """
        await self._lake.settle(name, columns, spans, _told(Change()))

    async def latest(self, name: str) -> Standing | None:
        """Return where a table stands now, or None while it has no version."""
        version = await self._lake.version(name)
        return None if version is None else await self._at(name, version)

    async def retire(self, name: str, column: str, before_us: int) -> Standing | None:
        """Drop the rows whose time lies before a moment; None when there are none.

        Older versions keep them, and so do the files those consist of.
        """

        def told(content: Content) -> Mapping[str, str]:
            return _told(Change(-content))

        version = await self._lake.retire(name, column, before_us, told)
        return None if version is None else await self._at(name, version)

    async def erase(self, name: str, owned: Owned, erasure: UUID) -> Standing | None:
        """Drop a subject's rows and return where the table stands; None while there is none.

        Raises:
            LakeMovedError: another writer was faster; nothing was dropped.
        """

        def told(content: Content) -> Mapping[str, str]:
            return {**_told(Change(-content)), "gyral.erasure": str(erasure)}

        version = await self._lake.erase(name, owned, told)
        return await self.latest(name) if version is None else await self._at(name, version)

    async def _at(self, name: str, version: int) -> Standing:
        """Return where a table stood at a version, or later if that is known already."""
        base = self._known.get(name) or await self._remembered(name) or Standing()
        if base.version < version:
            changes = await self._changes(name, base.version, version)
            if changes is None:
                content = await self._lake.content(name, version)
                base = Standing(version, content, base.schema_version)
            else:
                base = base.after(changes)
        self._known[name] = base
        return base

    async def _changes(self, name: str, after: int, until: int) -> list[Change] | None:
        """Return what each commit between two versions did, or None where that is not told."""
        if until - after > _MOST_COMMITS:
            return None
        commits = await self._lake.commits(name, after, until)
        changes = [change for each in commits if (change := _change(each)) is not None]
        return changes if len(changes) == until - after else None


def _told(change: Change) -> Mapping[str, str]:
    return {
        _CONTENT: change.content.digest,
        _ROWS: str(change.content.rows),
        _SCHEMA: str(change.schema_version),
    }


def _change(commit: Commit) -> Change | None:
    """Return what a commit says it did, or None where it says nothing."""
    if commit.operation in _NO_ROWS:
        return Change()
    try:
        content = Content.told(int(commit.facts[_ROWS]), commit.facts[_CONTENT])
        return Change(content, int(commit.facts[_SCHEMA]))
    except (KeyError, ValueError):
        return None
