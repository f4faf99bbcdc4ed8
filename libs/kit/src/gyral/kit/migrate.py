"""Forward-only schema migrations, applied by whichever process of a service starts first."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from gyral.kit.db import Connection, Pool
from gyral.kit.telemetry import get_log

_NAME = re.compile(r"^(\d{4})_[a-z0-9]+(_[a-z0-9]+)*\.sql$")
log = get_log()


class MigrationError(RuntimeError):
    """The migrations in the code and those in the database disagree."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number orders it, its digest pins it."""

    source: str
    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Digest of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(folder: Traversable, *, source: str) -> list[Migration]:
    """Return a folder's migrations in order.

    Raises:
        MigrationError: a name is not NNNN_verb_noun.sql, or a number is missing or used twice.
    """
    found = []
    for entry in folder.iterdir():
        if not entry.name.endswith(".sql"):
            continue
        match = _NAME.match(entry.name)
        if match is None:
            raise MigrationError(f"{source}: expected NNNN_verb_noun.sql; found {entry.name!r}")
        found.append(
            Migration(source, int(match[1]), entry.name, entry.read_text(encoding="utf-8"))
        )
    found.sort(key=lambda migration: migration.number)
    numbers = [migration.number for migration in found]
    if numbers != list(range(1, len(found) + 1)):
        raise MigrationError(
            f"{source}: expected numbers 1, 2, 3 without gaps; found {numbers}"
        )
    return found


async def migrate(pool: Pool, migrations: Traversable | None, *, service: str) -> list[str]:
    """Bring the service's schema up to this code and return the names applied now.

    The kit's own tables come first. A schema newer than the code is accepted: old and new
    processes overlap during an update.

    Raises:
        MigrationError: a file that was applied before has other text now.
    """
    wanted = read_migrations(resources.files("gyral.kit") / "migrations", source="kit")
    if migrations is not None:
        wanted += read_migrations(migrations, source=service)
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(
            "SELECT pg_advisory_xact_lock(hashtext('migrate.' || current_schema()))"
        )
        await conn.execute(
            """
            CREATE TABLE IF NOT EXISTS schema_migration (
                source     text        NOT NULL,
                number     integer     NOT NULL,
                name       text        NOT NULL,
                sha256     text        NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (source, number)
            )
            """
        )
        return await _apply(conn, wanted)


async def _apply(conn: Connection, wanted: Sequence[Migration]) -> list[str]:
    rows = await conn.fetch("SELECT source, number, name, sha256 FROM schema_migration")
    known = {(row["source"], row["number"]): row for row in rows}
    applied = []
    for migration in wanted:
        before = known.get((migration.source, migration.number))
        if before is None:
            await conn.execute(migration.sql)
            await conn.execute(
                """
                INSERT INTO schema_migration (source, number, name, sha256)
                VALUES ($1, $2, $3, $4)
                """,
                migration.source,
                migration.number,
                migration.name,
                migration.sha256,
            )
            applied.append(migration.name)
            log.info("schema.migrated", migration=migration.name, source=migration.source)
        elif before["sha256"] != migration.sha256:
            raise MigrationError(
                f"{migration.source}/{before['name']}: expected sha256 {before['sha256']};"
                f" found {migration.sha256} in {migration.name}."
                " Migrations are forward-only: add a new file instead."
            )
    return applied
