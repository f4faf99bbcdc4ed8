"""Invariants of what was decided, as queries over the services' own tables."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from gyral.client.audit.chain import Entry, breaks
from gyral.client.audit.findings import Finding
from gyral.client.audit.looking import PATIENCE_S, lasting
from gyral.contracts import training

Told = Mapping[str, Mapping[str, int]]
"""Request to how often each word about it was published."""
QUERIES: Mapping[str, str] = {
    "one_champion_per_model": """
        SELECT coalesce(champion.model, route.model) || ': the champion is '
               || coalesce(champion.version::text, 'none') || '; alone answers '
               || coalesce(route.alone::text, 'none')
          FROM registry.champion
          FULL JOIN (
                 SELECT route.model,
                        max((share ->> 'version')::int) FILTER (
                          WHERE (share ->> 'weight')::int = 100
                        ) AS alone
                   FROM deployer.route
                  CROSS JOIN jsonb_array_elements(route.event -> 'shares') AS share
                  GROUP BY route.model
               ) AS route
            ON route.model = champion.model
         WHERE champion.version IS DISTINCT FROM route.alone
           AND NOT EXISTS (
                 SELECT FROM deployer.rollout
                  WHERE rollout.model = coalesce(champion.model, route.model)
                    AND rollout.stage NOT IN ('completed', 'aborted', 'rolled_back')
               )
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
    # A flight ends with its verdict or its rollout, in other services: by their clocks, so a
    # second's difference is none.
    "one_retrain_in_flight": """
        WITH flight AS (
            SELECT run.model, run.run_id, run.created_at,
                   CASE
                     WHEN run.in_flight
                       OR rollout.stage NOT IN ('completed', 'aborted', 'rolled_back')
                       OR version.state = 'approved' AND rollout.version IS NULL
                     THEN 'infinity'
                     ELSE greatest(
                            run.ended_at,
                            rollout.updated_at,
                            CASE version.state WHEN 'rejected' THEN version.registered_at END
                          )
                   END AS landed_at
              FROM trainer.run
              LEFT JOIN registry.version ON version.run_id = run.run_id
              LEFT JOIN deployer.rollout ON rollout.run_id = run.run_id
        )
        SELECT later.model || ': ' || later.run_id || ' began during ' || earlier.run_id
          FROM flight AS earlier
          JOIN flight AS later
            ON later.model = earlier.model AND later.run_id <> earlier.run_id
           AND later.created_at >= earlier.created_at
           AND later.created_at < earlier.landed_at - interval '1 second'
    """,
}
_ASKED = """
    SELECT request_id::text FROM monitor.request
     UNION
    SELECT request_id::text FROM registry.bootstrap
"""
_DECIDED = """
    SELECT request.request_id::text, request.model, request.why IS NOT NULL, run.state,
           coalesce(run.ended_at, request.decided_at) > now() - $1::interval
      FROM trainer.request
      LEFT JOIN trainer.run ON run.request_id = request.request_id
"""
_AUDIT = """
    SELECT seq, at, actor, action, subject, reason, change, previous, hash
      FROM registry.audit
     ORDER BY seq
"""
_ENDINGS = ("suppressed", "succeeded", "failed", "cancelled")
_OPEN = ("queued", "running")
_TELLING = (
    training.RunSuppressed,
    training.RunSucceeded,
    training.RunFailed,
    training.RunCancelled,
)
TOLD_FOR = timedelta(hours=min(event.topic.retention_hours for event in _TELLING) - 1)
"""For so long the topics surely hold an outcome: clocks differ by less than that hour."""


@dataclass(frozen=True, slots=True)
class _Decided:
    """A request that the trainer decided on."""

    request_id: str
    model: str
    suppressed: bool
    state: str | None
    """Of its run; None without one."""
    told_lately: bool
    """Whether its outcome, if it has one, is young enough to be on its topic still."""

    def fault(self, words: Mapping[str, int]) -> str | None:
        """Return what is wrong with its outcome, or None.

        Args:
            words: how often each was published about it, as far as the topics reach back.
        """
        name = f"{self.request_id} of {self.model}"
        if self.suppressed == (self.state is not None):
            found = "both" if self.suppressed else "neither"
            return f"{name}: expected it suppressed or a run; found {found}"
        endings = sum(words.get(word, 0) for word in _ENDINGS)
        over = self.suppressed or self.state not in _OPEN
        forgotten = over and not self.told_lately and endings == 0
        if endings == int(over) or forgotten:
            return None
        return f"{name}: {endings} outcomes were told: {dict(words)}"


async def check(
    connection: asyncpg.Connection, *, patience_s: float = PATIENCE_S
) -> AsyncIterator[Finding]:
    """Yield the findings of all queries above, and of the audit chain."""
    for name, query in QUERIES.items():

        async def look(query: str = query) -> Mapping[str, str]:
            rows = await connection.fetch(query)
            return {str(row[0]): str(row[0]) for row in rows}

        yield Finding.of(name, await lasting(look, patience_s=patience_s))
    entries = [Entry(*row) for row in await connection.fetch(_AUDIT)]
    yield Finding.of("audit_chain_verifies", breaks(entries))


async def outcomes(
    connection: asyncpg.Connection,
    told: Callable[[], Awaitable[Told]],
    *,
    patience_s: float = PATIENCE_S,
) -> Finding:
    """Compare what was asked for, decided, and told on the topics.

    Topics forget: of what ended longer ago than they keep it, the tables alone must agree.

    Args:
        connection: to the services' tables.
        told: reads, for each request, how often each word about it was published,
            repetitions apart.
        patience_s: how long a request may wait for its decision, and that for being told.
    """

    async def look() -> Mapping[str, str]:
        return await _undecided_or_untold(connection, await told())

    found = await lasting(look, patience_s=patience_s)
    return Finding.of("requests_have_one_outcome", found)


async def _undecided_or_untold(connection: asyncpg.Connection, told: Told) -> Mapping[str, str]:
    asked = {str(row[0]) for row in await connection.fetch(_ASKED)}
    asked |= {each for each, words in told.items() if words.get("requested")}
    rows = await connection.fetch(_DECIDED, TOLD_FOR)
    decided = {row[0]: _Decided(*row) for row in rows}
    faults = {each: f"{each}: nobody decided on it" for each in sorted(asked - decided.keys())}
    for request_id, request in decided.items():
        fault = request.fault(told.get(request_id, {}))
        if fault is not None:
            faults[request_id] = fault
    return faults
