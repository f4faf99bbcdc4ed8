"""Invariants of what was decided, as queries over the services' own tables."""

from collections.abc import AsyncIterator, Mapping

import asyncpg

from gyral.client.audit.chain import Entry, breaks
from gyral.client.audit.findings import Finding

QUERIES: Mapping[str, str] = {
    "one_champion_per_model": """
        SELECT model || ': ' || count(*) || ' champions'
          FROM registry.champion
         GROUP BY model
        HAVING count(*) > 1
         UNION ALL
        SELECT route.model || ': two versions answer everything'
          FROM deployer.route, jsonb_array_elements(route.event -> 'shares') AS share
         WHERE (share ->> 'weight')::int = 100 AND NOT (share ->> 'shadow')::boolean
         GROUP BY route.model
        HAVING count(*) > 1
         UNION ALL
        SELECT route.model || ': weights add up to ' || sum((share ->> 'weight')::int)
          FROM deployer.route, jsonb_array_elements(route.event -> 'shares') AS share
         GROUP BY route.model
        HAVING sum((share ->> 'weight')::int) <> 100
    """,
    "serving_versions_are_approved": """
        SELECT route.model || '@' || (share ->> 'version') || ': ' || CASE
                 WHEN version.version IS NULL THEN 'the registry does not know it'
                 WHEN version.state <> 'approved' THEN 'it is ' || version.state
                 ELSE 'its bytes are not those judged'
               END
          FROM deployer.route
         CROSS JOIN jsonb_array_elements(route.event -> 'shares') AS share
          LEFT JOIN registry.version
            ON version.model = route.model
           AND version.version = (share ->> 'version')::int
         WHERE version.state IS DISTINCT FROM 'approved'
            OR version.artifacts -> 'onnx' ->> 'sha256' IS DISTINCT FROM share ->> 'sha256'
    """,
    "one_retrain_in_flight": """
        SELECT model || ': ' || count(*) || ' runs in flight'
          FROM trainer.run
         WHERE in_flight
         GROUP BY model
        HAVING count(*) > 1
         UNION ALL
        SELECT later.model || ': ' || later.run_id || ' began during ' || earlier.run_id
          FROM trainer.run AS earlier
          JOIN trainer.run AS later
            ON later.model = earlier.model AND later.run_id <> earlier.run_id
           AND later.created_at >= earlier.created_at
           AND later.created_at < coalesce(earlier.ended_at, 'infinity')
    """,
}
_ASKED = """
    SELECT request_id::text FROM monitor.request
     UNION
    SELECT request_id::text FROM registry.bootstrap
"""
_DECIDED = """
    SELECT request.request_id::text, request.model, request.why, run.state
      FROM trainer.request
      LEFT JOIN trainer.run ON run.request_id = request.request_id
"""
_AUDIT = """
    SELECT seq, at, actor, action, subject, reason, change, previous, hash
      FROM registry.audit
     ORDER BY seq
"""
_ENDINGS = ("suppressed", "succeeded", "failed", "cancelled")


async def check(connection: asyncpg.Connection) -> AsyncIterator[Finding]:
    """Yield the findings of all queries above, and of the audit chain."""
    for name, query in QUERIES.items():
        rows = await connection.fetch(query)
        yield Finding.of(name, (str(row[0]) for row in rows))
    entries = [Entry(*row) for row in await connection.fetch(_AUDIT)]
    yield Finding.of("audit_chain_verifies", breaks(entries))


async def outcomes(
    connection: asyncpg.Connection, told: Mapping[str, Mapping[str, int]]
) -> Finding:
    """Compare what was asked for, decided, and told on the topics.

    Args:
        connection: to the services' tables.
        told: request id to how often each word about it was published, repetitions apart.
    """
    asked = {str(row[0]) for row in await connection.fetch(_ASKED)}
    asked |= {each for each, words in told.items() if words.get("requested")}
    decided = {row[0]: row for row in await connection.fetch(_DECIDED)}

    def violations() -> "list[str]":
        found = [f"{each}: nobody decided on it" for each in sorted(asked - decided.keys())]
        for request_id, (_, model, why, state) in decided.items():
            words = told.get(request_id, {})
            endings = sum(words.get(word, 0) for word in _ENDINGS)
            over = why is not None or state not in ("queued", "running")
            if endings != int(over):
                found.append(f"{request_id} of {model}: {endings} outcomes were told: {words}")
        return found

    return Finding.of("requests_have_one_outcome", violations())
