"""A table of Postgres to a stream: one snapshot a run, and only what changed since the last."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import asyncpg

from gyral.client.errors import ClientError
from gyral.client.rows.bodies import TABLES
from gyral.client.sending.declared import Declared
from gyral.client.sending.delivering import Delivery
from gyral.client.sending.files import Sent
from gyral.client.sending.memory import Mark, Memory
from gyral.client.sending.parcels import Parcel, fitted, of_tables
from gyral.client.sending.progress import Show
from gyral.client.sending.relation import Connection, Relation, Start

_CONNECT_S = 30


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which table, and how it is read."""

    table: str
    since: str
    key: str | None
    overlap_s: float
    batch: int
    restart: bool = False


@dataclass(slots=True)
class _Reading:
    """One run over a table, and how far it has come."""

    relation: Relation
    identity: str
    batch: int
    memory: Memory
    show: Show
    mark: Mark | None = None
    read_at: str = ""
    total: int = 0
    _page: list[tuple[str, str | None]] = field(default_factory=list)
    """Change and key of the rows in hand."""

    async def parcels(
        self, connection: Connection, start: Start | None
    ) -> AsyncIterator[Parcel]:
        """Yield the rows, page by page of a cursor over the one snapshot."""
        kinds = {name: kind for name, (_, kind) in self.relation.fields.items()}
        sql, arguments = self.relation.sql(start)
        cursor = await connection.cursor(sql, *arguments)
        while rows := await cursor.fetch(self.batch):
            self._page = [(row[-2], row[-1]) for row in rows]
            table = fitted(self.relation.table(rows), kinds, self._where)
            for parcel in of_tables(
                [table], TABLES, rows=self.batch, first=0, place=self._place
            ):
                yield parcel

    def taken(self, parcel: Parcel) -> None:
        """Note that a parcel's rows were taken."""
        self.total += parcel.rows
        since, key = self._page[parcel.first + parcel.rows - 1]
        self.mark = Mark(since, key or "", self.read_at, complete=False)
        self.memory.reached(self.identity, self.mark)
        self.show(self.relation.name, self.total)

    def finished(self) -> None:
        """Note that nothing is left to read."""
        if self.mark is not None:
            done = Mark(self.mark.since, self.mark.key, self.read_at, complete=True)
            self.memory.reached(self.identity, done)

    def _where(self, at: int) -> str:
        return f"{self.relation.name}: {self._place(at)}"

    def _place(self, at: int) -> str:
        return f"row with {self.relation.key} {self._page[at][1]!r:.80}"


@dataclass(frozen=True, slots=True)
class Tables:
    """Sends tables, and remembers how far each was read."""

    delivery: Delivery
    declared: Declared
    memory: Memory
    show: Show

    async def send(self, wanted: Wanted, address: str) -> Sent:
        """Send the rows of a table that are new or changed since the last run.

        Raises:
            ClientError: the table cannot be read or does not fit, or a row is refused.
        """
        async with _snapshot(address) as connection:
            relation = await Relation.find(
                connection, wanted.table, wanted.since, wanted.key, self.declared
            )
            await relation.check_rows(connection)
            reading = await self._reading(connection, relation, wanted)
            start = None
            if reading.mark is not None:
                start = await relation.start(connection, reading.mark, wanted.overlap_s)
            await self.delivery.deliver(
                reading.parcels(connection, start),
                lambda parcel: parcel.key_of_content(self.delivery.stream, reading.identity),
                reading.taken,
                name=relation.name,
            )
            reading.finished()
        return Sent(relation.name, reading.total, reading.total)

    async def _reading(
        self, connection: Connection, relation: Relation, wanted: Wanted
    ) -> _Reading:
        server = await _server(connection)
        reading = _Reading(
            relation,
            f"{server} {relation.quoted} {relation.since}",
            wanted.batch,
            self.memory,
            self.show,
        )
        reading.read_at = str(await connection.fetchval("SELECT now()::text"))
        if wanted.restart:
            self.memory.forget_relation(reading.identity)
        reading.mark = self.memory.mark(reading.identity)
        return reading


@asynccontextmanager
async def _snapshot(address: str) -> AsyncIterator[Connection]:
    """Yield a connection inside one read-only snapshot, its times in UTC."""
    try:
        with _told():
            connection = await asyncpg.connect(address, timeout=_CONNECT_S)
    except ValueError as error:
        raise ClientError(
            "source database: expected a DSN such as postgresql://user:password@host/database; "
            "found none"
        ) from error
    try:
        with _told():
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(
                    "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'"
                )
                yield connection
    finally:
        connection.terminate()


@contextmanager
def _told() -> Iterator[None]:
    """Make what the driver says one line, without the address: it holds a password."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ClientError(
            f"source database: expected its rows; found {reason}: run the same again, it goes "
            "on where it stopped"
        ) from error


async def _server(connection: Connection) -> str:
    """Return what tells this database from all others: a fail-over keeps it."""
    return str(
        await connection.fetchval(
            """
            SELECT system_identifier || '/' || current_database()
              FROM pg_control_system()
            """
        )
    )
