"""A table or view of Postgres: found by its exact name, read in the order of change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import asyncpg
import pyarrow as pa

from gyral.client.errors import ClientError
from gyral.client.rows.columns import TIME
from gyral.client.sending.declared import Declared
from gyral.client.sending.memory import Mark
from gyral.contracts.specs.stream import FieldType

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_WHOLE = ("int2", "int4", "int8")
_TEXT = ("text", "varchar", "bpchar", "name", "citext", "uuid", "enum", *_WHOLE)
_REAL = ("float4", "float8", "numeric", *_WHOLE)
_SINCE = ("timestamptz", "timestamp")
_READ: Mapping[FieldType, tuple[tuple[str, ...], str, pa.DataType]] = {
    FieldType.STRING: (_TEXT, "text", pa.string()),
    FieldType.INTEGER: (_WHOLE, "int8", pa.int64()),
    FieldType.NUMBER: (_REAL, "float8", pa.float64()),
    FieldType.BOOLEAN: (("bool",), "bool", pa.bool_()),
    FieldType.TIMESTAMP: (("timestamptz",), "timestamptz", TIME),
}
"""Which of Postgres's types a field may be read from, as what, and what that is here."""
_RELATION = """
SELECT c.oid, n.nspname, c.relname
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = ANY ('{r,p,v,m,f}')
   AND (   (c.relname = $1 AND pg_table_is_visible(c.oid))
        OR n.nspname || '.' || c.relname = $1)
"""
_COLUMNS = """
SELECT a.attname,
       CASE WHEN b.typtype = 'e' THEN 'enum' ELSE b.typname END AS kind,
       format_type(a.atttypid, NULL) AS type,
       a.attnotnull,
       EXISTS (
           SELECT FROM pg_index i
            WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid
              AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum AND i.indpred IS NULL
       ) AS alone
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""


@dataclass(frozen=True, slots=True)
class Column:
    """One column as the catalogue has it."""

    kind: str
    type: str
    required: bool
    unique: bool


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin: at a change, and with `key` behind that very row of it."""

    since: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Relation:
    """What is read of a table, and in which order."""

    name: str
    """Schema and table, as people write it."""
    quoted: str
    columns: Mapping[str, Column]
    since: str
    key: str
    fields: Mapping[str, tuple[str, FieldType]]
    """Field of the stream to column and type."""

    @classmethod
    async def find(
        cls, connection: Connection, table: str, since: str, key: str | None, declared: Declared
    ) -> "Relation":
        """Return the table, having checked that each column can be what its field is.

        Raises:
            ClientError: it is not there, or a column is missing or of another type.
        """
        found = await connection.fetch(_RELATION, table)
        if len(found) != 1:
            many = "none that this role sees" if not found else "one in several schemas"
            raise ClientError(
                f"--table: expected the exact name of one table or view; found {many}: "
                f"{table!r}; give it as schema.table"
            )
        oid, schema, name = found[0]
        columns = {
            column: Column(*facts) for column, *facts in await connection.fetch(_COLUMNS, oid)
        }
        where, body = f"{schema}.{name}", declared.body
        wanted = {body.key: key or body.key}
        names = [wanted.get(field, field) for field in body.fields]
        there = [f for f, c in zip(body.fields, names, strict=True) if c in columns]
        if key is not None and key not in columns:
            raise _missing(where, "--key", key, columns)
        kinds = declared.fields_of(there, where)
        fields = {field: (wanted.get(field, field), kind) for field, kind in kinds.items()}
        made = cls(where, f"{quote(schema)}.{quote(name)}", columns, since, "", fields)
        made._check()
        return cls(where, made.quoted, columns, since, wanted[body.key], fields)

    def _check(self) -> None:
        if self.since not in self.columns:
            raise _missing(self.name, "--since", self.since, self.columns)
        if self.columns[self.since].kind not in _SINCE:
            raise ClientError(
                f"{self.name}: {self.since}: expected timestamp with time zone for --since, "
                f"when a row changed; found {self.columns[self.since].type}"
            )
        for field, (name, kind) in self.fields.items():
            column = self.columns[name]
            if column.kind not in _READ[kind][0]:
                raise ClientError(
                    f"{self.name}: {name}: expected one of {', '.join(_READ[kind][0])} for "
                    f"{field}, a {kind}; found {column.type}: read a view that casts it"
                )

    @property
    def exact(self) -> bool:
        """True when the change's time is one that the server's clock can be compared with."""
        return self.columns[self.since].kind == "timestamptz"

    async def check_rows(self, connection: Connection) -> None:
        """Refuse a table with rows that would never be read, or could not be told apart."""
        for name in (self.since, self.key):
            if self.columns[name].required:
                continue
            sql = f"SELECT EXISTS (SELECT FROM {self.quoted} WHERE {quote(name)} IS NULL)"  # noqa: S608
            if await connection.fetchval(sql):
                raise ClientError(
                    f"{self.name}: {name}: expected a value in each row; found NULL: set it, "
                    "or read a view that leaves such rows out"
                )

    async def start(self, connection: Connection, mark: Mark, overlap_s: float) -> Start:
        """Return where to go on.

        A transaction commits up to `overlap_s` after the change it names, so what was read is
        complete only up to that long before it was read. An interrupted run goes on at its
        last row where that lies before; else what is younger is read once more.
        """
        kind = self.columns[self.since].kind
        since, passed = await connection.fetchrow(
            f"""
            SELECT (least($1::text::{kind}, $2::text::timestamptz::{kind})
                      - make_interval(secs => $3))::text,
                   $1::text::timestamptz
                      < $2::text::timestamptz - make_interval(secs => $3)
            """,
            mark.since,
            mark.read_at,
            overlap_s,
        ) or ("", False)
        if passed and self.exact and not mark.complete:
            return Start(mark.since, mark.key)
        return Start(since)

    def sql(self, start: Start | None) -> tuple[str, Sequence[str]]:
        """Return the query and its arguments: the fields, then change and key as text."""
        since, key = quote(self.since), quote(self.key)
        fields = [f"{quote(c)}::{_READ[k][1]}" for c, k in self.fields.values()]
        head = f"SELECT {', '.join([*fields, f'{since}::text', f'{key}::text'])}"
        lines = [head, f"  FROM {self.quoted}"]
        arguments: list[str] = []
        if start is not None:
            # Said of the change alone, so that an index on it serves; then of the very row.
            at = f"$1::text::{self.columns[self.since].type}"
            lines.append(f" WHERE {since} >= {at}")
            arguments.append(start.since)
            if start.key is not None:
                # Where two rows may share a key, the one at the mark is read again.
                column = self.columns[self.key]
                after = ">" if column.unique else ">="
                lines.append(f"   AND ({since}, {key}) {after} ({at}, $2::text::{column.type})")
                arguments.append(start.key)
        lines.append(f" ORDER BY {since}, {key}")
        return "\n".join(lines), arguments

    def table(self, rows: Sequence[asyncpg.Record]) -> pa.Table:
        """Return rows of the query as columns of Arrow, without change and key."""
        columns = zip(*rows, strict=True)
        return pa.table(
            {
                field: pa.array(cells, _READ[kind][2])
                for (field, (_, kind)), cells in zip(self.fields.items(), columns, strict=False)
            }
        )


def quote(name: str) -> str:
    """Return a name as SQL takes it, whatever is in it."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def _missing(where: str, option: str, name: str, columns: Mapping[str, Column]) -> ClientError:
    return ClientError(
        f"{where}: {option}: expected one of its columns; found {name!r}, not in "
        f"{', '.join(columns)[:300]}"
    )
