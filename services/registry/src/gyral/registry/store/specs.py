"""Declared documents and API keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from gyral.contracts.access import Scope
from gyral.contracts.specs.stream import FieldType
from gyral.registry.store.audit import AuditTx


@dataclass(frozen=True, slots=True)
class Declared:
    """The latest generation of a document."""

    kind: str
    name: str
    generation: int
    document: str
    """As JSON."""
    sha256: str


@dataclass(frozen=True, slots=True)
class Key:
    """An API key without its secret."""

    key_id: str
    name: str
    generation: int
    sha256: str
    scopes: tuple[Scope, ...]
    models: tuple[str, ...] | None
    """Those it may ask; None: every one."""
    expires_at: datetime | None
    revoked: bool


class SpecTx(AuditTx):
    """A transaction over specs and keys."""

    async def hold(self, kind: str, name: str) -> None:
        """Let no other transaction change or hold this document until the end of this one."""
        await self.conn.execute(
            "SELECT pg_advisory_xact_lock(hashtext($1))", f"registry.{kind}/{name}"
        )

    async def declared(self, kind: str, name: str) -> Declared | None:
        """Return the latest generation of a document, or None."""
        row = await self.conn.fetchrow(
            """
            SELECT kind, name, generation, document, sha256
              FROM spec
             WHERE kind = $1 AND name = $2
            """,
            kind, name,
        )  # fmt: skip
        return _declared(row) if row else None

    async def all_declared(
        self, kind: str, *, after: str | None = None, limit: int | None = None
    ) -> list[Declared]:
        """Return the latest generation of documents of a kind, by name, of all or of a page."""
        rows = await self.conn.fetch(
            """
            SELECT kind, name, generation, document, sha256
              FROM spec
             WHERE kind = $1 AND ($2::text IS NULL OR name > $2)
             ORDER BY name
             LIMIT $3
            """,
            kind, after, limit,
        )  # fmt: skip
        return [_declared(row) for row in rows]

    async def declare(self, declared: Declared, *, now: datetime, actor: str) -> None:
        """Make this the document's latest generation."""
        await self.conn.execute(
            """
            INSERT INTO spec (kind, name, generation, document, sha256,
                              declared_at, declared_by)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
                ON CONFLICT (kind, name) DO UPDATE
               SET generation = $3, document = $4, sha256 = $5,
                   declared_at = $6, declared_by = $7
            """,
            declared.kind, declared.name, declared.generation, declared.document,
            declared.sha256, now, actor,
        )  # fmt: skip

    async def feature_types(self, model: str) -> dict[str, FieldType]:
        """Return the type of each feature any generation of a model had."""
        rows = await self.conn.fetch("SELECT name, type FROM feature WHERE model = $1", model)
        return {row["name"]: FieldType(row["type"]) for row in rows}

    async def keep_feature_types(self, model: str, types: Mapping[str, FieldType]) -> None:
        """Remember the types of a model's features; what is known stays."""
        await self.conn.execute(
            """
            INSERT INTO feature (model, name, type)
            SELECT $1, * FROM unnest($2::text[], $3::text[])
                ON CONFLICT DO NOTHING
            """,
            model, list(types), [str(kind) for kind in types.values()],
        )  # fmt: skip

    async def add_key(self, key: Key, *, now: datetime) -> bool:
        """Keep a new key; False when one with this digest exists."""
        added = await self.conn.fetchval(
            """
            INSERT INTO api_key (key_id, name, sha256, scopes, models, expires_at, issued_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
                ON CONFLICT (sha256) DO NOTHING
            RETURNING key_id
            """,
            key.key_id, key.name, key.sha256, [str(scope) for scope in key.scopes],
            key.models, key.expires_at, now,
        )  # fmt: skip
        return added is not None

    async def revoke_key(self, key_id: str) -> Key | None:
        """Revoke a key and return it as it is now, or None when there is none."""
        row = await self.conn.fetchrow(
            """
            UPDATE api_key
               SET revoked = true, generation = generation + 1
             WHERE key_id = $1
            RETURNING key_id, name, generation, sha256, scopes, models, expires_at, revoked
            """,
            key_id,
        )
        return _key(row) if row else None

    async def keys(self, *, after: str | None, limit: int) -> list[Key]:
        """Return up to `limit` keys issued after the key `after`, oldest first."""
        rows = await self.conn.fetch(
            """
            SELECT key_id, name, generation, sha256, scopes, models, expires_at, revoked
              FROM api_key
             WHERE $1::uuid IS NULL
                OR (issued_at, key_id) >
                   (SELECT issued_at, key_id FROM api_key WHERE key_id = $1)
             ORDER BY issued_at, key_id
             LIMIT $2
            """,
            after, limit,
        )  # fmt: skip
        return [_key(row) for row in rows]


def _declared(row: asyncpg.Record) -> Declared:
    return Declared(row["kind"], row["name"], row["generation"], row["document"], row["sha256"])


def _key(row: asyncpg.Record) -> Key:
    return Key(
        key_id=str(row["key_id"]),
        name=row["name"],
        generation=row["generation"],
        sha256=row["sha256"],
        scopes=tuple(Scope(scope) for scope in row["scopes"]),
        models=None if row["models"] is None else tuple(row["models"]),
        expires_at=row["expires_at"],
        revoked=row["revoked"],
    )
