"""What was sent so far, in one SQLite file: a second run goes on, or finds nothing to do."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from gyral.client.errors import ClientError

FILE = "sent.sqlite3"
_TABLES = """
CREATE TABLE IF NOT EXISTS file (
    platform TEXT    NOT NULL,
    stream   TEXT    NOT NULL,
    sha256   TEXT    NOT NULL,
    path     TEXT    NOT NULL,
    rows     INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    at       TEXT    NOT NULL,
    PRIMARY KEY (platform, stream, sha256)
);
CREATE TABLE IF NOT EXISTS relation (
    platform TEXT    NOT NULL,
    stream   TEXT    NOT NULL,
    relation TEXT    NOT NULL,
    since    TEXT    NOT NULL,
    key      TEXT    NOT NULL,
    read_at  TEXT    NOT NULL,
    complete INTEGER NOT NULL,
    PRIMARY KEY (platform, stream, relation)
);
"""


@dataclass(frozen=True, slots=True)
class FileSent:
    """How far a file of this content got."""

    rows: int
    complete: bool
    at: str


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a table was read: the last row's change, and when it was looked at."""

    since: str
    key: str
    read_at: str
    """The server's time when the rows were read."""
    complete: bool
    """False while a run is under way, or was interrupted."""


@dataclass(slots=True)
class Memory:
    """Remembers for one platform and stream; use as a context manager."""

    folder: Path
    platform: str
    stream: str
    _db: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        with self._told():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.folder / FILE, os.O_RDWR | os.O_CREAT, 0o600))
            # Autocommit, and out to the disk before the next request is sent.
            self._db = sqlite3.connect(self.folder / FILE, isolation_level=None, timeout=30)
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_TABLES)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._db is not None:
            self._db.close()

    def file(self, sha256: str) -> FileSent | None:
        """Return how far a file of this content got."""
        for rows, complete, at in self._ask(
            """
            SELECT rows, complete, at FROM file
             WHERE platform = ? AND stream = ? AND sha256 = ?
            """,
            sha256,
        ):
            return FileSent(int(rows), bool(complete), str(at))
        return None

    def interrupted(self, path: Path, sha256: str) -> int | None:
        """Return how many rows were sent of another content that this path had, unfinished."""
        for (rows,) in self._ask(
            """
            SELECT rows FROM file
             WHERE platform = ? AND stream = ? AND path = ? AND sha256 <> ? AND NOT complete
             ORDER BY at DESC
             LIMIT 1
            """,
            str(path),
            sha256,
        ):
            return int(rows)
        return None

    def sent(self, path: Path, sha256: str, rows: int, *, complete: bool) -> None:
        """Note that the first `rows` rows were taken; never steps back."""
        self._ask(
            """
            INSERT INTO file AS known (platform, stream, path, sha256, rows, complete, at)
            VALUES (?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (platform, stream, sha256)
                DO UPDATE SET rows = max(known.rows, excluded.rows),
                              complete = max(known.complete, excluded.complete),
                              path = excluded.path,
                              at = excluded.at
            """,
            str(path),
            sha256,
            rows,
            complete,
            datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def forget_file(self, path: Path, sha256: str) -> None:
        """Let a path, and this content under any, be sent from the beginning."""
        self._ask(
            "DELETE FROM file WHERE platform = ? AND stream = ? AND (path = ? OR sha256 = ?)",
            str(path),
            sha256,
        )

    def mark(self, relation: str) -> Mark | None:
        """Return how far a table was read."""
        for since, key, read_at, complete in self._ask(
            """
            SELECT since, key, read_at, complete FROM relation
             WHERE platform = ? AND stream = ? AND relation = ?
            """,
            relation,
        ):
            return Mark(str(since), str(key), str(read_at), complete=bool(complete))
        return None

    def reached(self, relation: str, mark: Mark) -> None:
        """Note how far a table was read."""
        self._ask(
            """
            INSERT INTO relation (platform, stream, relation, since, key, read_at, complete)
            VALUES (?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (platform, stream, relation)
                DO UPDATE SET since = excluded.since,
                              key = excluded.key,
                              read_at = excluded.read_at,
                              complete = excluded.complete
            """,
            relation,
            mark.since,
            mark.key,
            mark.read_at,
            mark.complete,
        )

    def forget_relation(self, relation: str) -> None:
        """Let a table be read from the beginning."""
        self._ask(
            "DELETE FROM relation WHERE platform = ? AND stream = ? AND relation = ?", relation
        )

    def _ask(self, sql: str, *values: str | int) -> Sequence[tuple[str | int, ...]]:
        if self._db is None:
            raise ValueError("expected an open memory; enter its context first")
        with self._told():
            return self._db.execute(sql, (self.platform, self.stream, *values)).fetchall()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ClientError(
                f"{self.folder / FILE}: expected to note there what was sent; found {error}: "
                "set GYRAL_HOME to a folder of yours, or move the file away (rows sent again "
                "are dropped as duplicates)"
            ) from error
