"""What was put back, and whether somebody said why."""

from collections.abc import Collection, Sequence

import asyncpg

_HELD = """
    SELECT quote_ident(schemaname)
      FROM pg_tables
     WHERE tablename = $1 AND has_schema_privilege(schemaname, 'USAGE')
     ORDER BY 1
"""
_SETTLED = "SELECT id::text FROM {schema}.dead_letter WHERE state <> 'parked'"
_UNAUDITED = """
    SELECT '{schema}.{table} ' || thing.id || ': nobody said why it was put back'
      FROM {schema}.{table} AS thing
     WHERE thing.replay_id IS NOT NULL
       AND NOT EXISTS (SELECT FROM {schema}.replay WHERE replay.id = thing.replay_id)
"""


async def settled(connection: asyncpg.Connection) -> Collection[str]:
    """Return the ids of dead letters that were replayed, or whose events were handled since."""
    found: set[str] = set()
    for (schema,) in await connection.fetch(_HELD, "dead_letter"):
        rows = await connection.fetch(_SETTLED.format(schema=schema))
        found.update(row[0] for row in rows)
    return found


async def unaudited(connection: asyncpg.Connection) -> Sequence[str]:
    """Return a line for each dead letter and refused row put back without an entry."""
    found: list[str] = []
    for table in ("dead_letter", "quarantine"):
        for (schema,) in await connection.fetch(_HELD, table):
            rows = await connection.fetch(_UNAUDITED.format(schema=schema, table=table))
            found += [row[0] for row in rows]
    return found
