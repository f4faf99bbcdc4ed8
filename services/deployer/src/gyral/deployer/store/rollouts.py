"""What the deployer remembers: rollouts, routes and watermarks."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from gyral.contracts.deployment import RouteChanged, Share
from gyral.contracts.events import Delivery
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.training import Artifacts
from gyral.contracts.versions import VersionApproved
from gyral.deployer.domain.rollouts import Stage, State
from gyral.deployer.domain.routes import answering
from gyral.deployer.domain.samples import Step
from gyral.deployer.store.observations import ObservationTx

_COLUMNS = """model, version, run_id, request_id, stage, step, extended, paused, awaiting,
              since, measured, epoch, previous, bootstrap, artifacts, spec, bento_key,
              actor, reason, cause"""


@dataclass(frozen=True, slots=True)
class StoredRollout:
    """One version's way to serving."""

    model: str
    version: int
    run_id: str
    request_id: str
    state: State
    since: datetime | None
    """When its step began, on the model's clock; None before its first judgement."""
    measured: Mapping[str, float | int | None]
    """What its step came to when it was judged last."""
    epoch: int | None
    """Epoch of its present route; None while it warms up."""
    previous: int | None
    bootstrap: bool
    artifacts: Artifacts
    spec: ModelSpec
    bento_key: str | None
    actor: str | None
    """Who decided last: an operator by name; None: the deployer by its rules."""
    reason: str | None
    cause: Delivery
    """The approval it follows from: its steps continue that trace."""


class RolloutTx(ObservationTx):
    """A transaction over rollouts, what was observed in them, and routes."""

    async def hold(self, model: str) -> None:
        """Let no other transaction decide about this model until the end of this one."""
        await self.conn.execute(
            "SELECT pg_advisory_xact_lock(hashtext($1))", f"deployer/{model}"
        )

    async def begin_rollout(
        self,
        approved: VersionApproved,
        spec: ModelSpec,
        *,
        now: datetime,
        stage: Stage = Stage.WARMING,
    ) -> None:
        """Remember a version that is to take over from the one that answers most."""
        cause = approved.delivery
        previous = await self.answering(approved.model)
        await self.conn.execute(
            """
            INSERT INTO rollout (model, version, run_id, request_id, stage, previous, bootstrap,
                                 artifacts, spec, cause, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
            """,
            approved.model, approved.version, approved.run_id, approved.request_id, stage,
            previous, approved.bootstrap, approved.artifacts.model_dump_json(),
            spec.model_dump_json(),
            json.dumps([cause.event_id, cause.correlation_id, cause.traceparent]), now,
        )  # fmt: skip

    async def rollout(self, model: str, version: int) -> StoredRollout | None:
        """Return one rollout, or None."""
        row = await self.conn.fetchrow(
            f"SELECT {_COLUMNS} FROM rollout WHERE model = $1 AND version = $2",  # noqa: S608
            model, version,
        )  # fmt: skip
        return _rollout(row) if row else None

    async def in_flight(self, model: str) -> StoredRollout | None:
        """Return the model's rollout that is under way, or None."""
        row = await self.conn.fetchrow(
            f"""
            SELECT {_COLUMNS}
              FROM rollout
             WHERE model = $1 AND stage NOT IN ('completed', 'aborted', 'rolled_back')
            """,  # noqa: S608
            model,
        )
        return _rollout(row) if row else None

    async def of_torch(self) -> frozenset[str]:
        """Return the models that had a version served as torch, and so may go back to it."""
        rows = await self.conn.fetch(
            "SELECT DISTINCT model FROM rollout WHERE artifacts ->> 'code' IS NOT NULL"
        )
        return frozenset(row["model"] for row in rows)

    async def over(self, slots: Iterable[str], *, before: datetime) -> frozenset[str]:
        """Return the slots whose rollout had ended, and that no route named, before a time."""
        rows = await self.conn.fetch(
            """
            SELECT model || '@' || version AS slot
              FROM rollout
             WHERE model || '@' || version = ANY ($1::text[])
               AND stage IN ('completed', 'aborted', 'rolled_back')
               AND greatest(coalesce(rolled_back_at, updated_at), unrouted_at) < $2
            """,
            list(slots), before,
        )  # fmt: skip
        return frozenset(row["slot"] for row in rows)

    async def steps_under_way(self) -> dict[str, Step]:
        """Return the step of each model that has one under way."""
        rows = await self.conn.fetch(
            """
            SELECT model, epoch, paused OR awaiting OR stage = 'ab' AS open_ended, kept
              FROM rollout
             WHERE stage NOT IN ('completed', 'aborted', 'rolled_back') AND epoch IS NOT NULL
            """
        )
        return {
            row["model"]: Step(row["epoch"], row["open_ended"], row["kept"]) for row in rows
        }

    async def warming(self) -> frozenset[str]:
        """Return the models with a version that is being prepared."""
        rows = await self.conn.fetch("SELECT model FROM rollout WHERE stage = 'warming'")
        return frozenset(row["model"] for row in rows)

    async def rollouts(
        self, model: str, *, after: int | None, limit: int
    ) -> list[StoredRollout]:
        """Return rollouts of versions older than `after`, newest version first."""
        rows = await self.conn.fetch(
            f"""
            SELECT {_COLUMNS}
              FROM rollout
             WHERE model = $1 AND ($2::integer IS NULL OR version < $2)
             ORDER BY version DESC
             LIMIT $3
            """,  # noqa: S608
            model, after, limit,
        )  # fmt: skip
        return [_rollout(row) for row in rows]

    async def move(
        self,
        rollout: StoredRollout,
        state: State,
        *,
        epoch: int | None,
        actor: str | None = None,
        reason: str | None,
        now: datetime,
        as_of: datetime | None = None,
    ) -> None:
        """Remember where a rollout stands now, and by whose word.

        A step's time goes on while its state means the same, but for the time it was held.

        Args:
            rollout: as it stood before.
            state: where it stands from now on.
            epoch: of its route.
            actor: who decided, where an operator did.
            reason: why.
            now: the wall clock's time.
            as_of: the model's clock, where it is held or goes on.
        """
        await self.conn.execute(
            """
            UPDATE rollout
               SET stage = $3, step = $4, extended = $5, paused = $6, awaiting = $7, epoch = $8,
                   actor = $9, reason = $10, updated_at = $11,
                   since = CASE
                             WHEN (stage, step, awaiting) <> ($3, $4, $7) THEN NULL
                             WHEN paused AND NOT $6
                             THEN since + ($12::timestamptz - greatest(paused_at, since))
                             ELSE since
                           END,
                   paused_at = CASE
                                 WHEN NOT $6 THEN NULL
                                 WHEN paused THEN paused_at
                                 ELSE $12
                               END,
                   kept = CASE WHEN epoch = $8 THEN kept ELSE 0 END
             WHERE model = $1 AND version = $2
            """,
            rollout.model, rollout.version, state.stage, state.step, state.extended,
            state.paused, state.awaiting, epoch, actor, reason, now, as_of,
        )  # fmt: skip

    async def keep_measured(
        self,
        rollout: StoredRollout,
        measured: Mapping[str, float | int | None],
        since: datetime | None,
        *,
        kept: int,
    ) -> None:
        """Remember what a step has come to, and when it began if nobody knew yet."""
        await self.conn.execute(
            """
            UPDATE rollout SET measured = $3, since = coalesce(since, $4), kept = $5
             WHERE model = $1 AND version = $2
            """,
            rollout.model, rollout.version, json.dumps(dict(measured)), since, kept,
        )  # fmt: skip

    async def roll_back(
        self, model: str, version: int, *, actor: str, reason: str, now: datetime
    ) -> None:
        """Remember that a completed version answers no more; when it completed stays known."""
        await self.conn.execute(
            """
            UPDATE rollout
               SET stage = 'rolled_back', actor = $3, reason = $4, rolled_back_at = $5
             WHERE model = $1 AND version = $2
            """,
            model, version, actor, reason, now,
        )  # fmt: skip

    async def keep_bento(self, model: str, version: int, key: str) -> None:
        """Remember where a version's Bento lies."""
        await self.conn.execute(
            "UPDATE rollout SET bento_key = $3 WHERE model = $1 AND version = $2",
            model,
            version,
            key,
        )

    async def route(self, model: str) -> RouteChanged | None:
        """Return the model's latest route, or None before its first."""
        event = await self.conn.fetchval("SELECT event FROM route WHERE model = $1", model)
        return RouteChanged.model_validate_json(event) if event else None

    async def answering(self, model: str) -> int | None:
        """Return the version that answers most of the model's requests, or None."""
        route = await self.route(model)
        return answering(route.shares) if route else None

    async def routes(self) -> list[RouteChanged]:
        """Return the latest route of every model."""
        rows = await self.conn.fetch("SELECT event FROM route ORDER BY model")
        return [RouteChanged.model_validate_json(row["event"]) for row in rows]

    async def set_route(self, route: RouteChanged, *, now: datetime) -> None:
        """Make this the model's route and publish it; its epoch must be a later one."""
        before = await self.route(route.model)
        moved = await self.conn.fetchval(
            """
            INSERT INTO route (model, epoch, event)
            VALUES ($1, $2, $3)
                ON CONFLICT (model) DO UPDATE
               SET epoch = $2, event = $3
             WHERE route.epoch < $2
            RETURNING epoch
            """,
            route.model, route.epoch, route.model_dump_json(),
        )  # fmt: skip
        if moved is None:
            raise ValueError(
                f"route of {route.model}: expected an epoch before {route.epoch}; "
                "found a later one"
            )
        await self._date_leaving(before.shares if before else (), route, now)
        await self.publish(route)

    async def _date_leaving(
        self, before: tuple[Share, ...], route: RouteChanged, now: datetime
    ) -> None:
        left = {share.version for share in before} - {share.version for share in route.shares}
        await self.conn.execute(
            """
            UPDATE rollout SET unrouted_at = $3
             WHERE model = $1 AND version = ANY ($2::integer[])
            """,
            route.model, list(left), now,
        )  # fmt: skip

    async def advance_watermark(self, model: str, partition: int, event_time: datetime) -> None:
        """Remember how far one partition is; it never goes back."""
        await self.conn.execute(
            """
            INSERT INTO watermark (model, partition, event_time)
            VALUES ($1, $2, $3)
                ON CONFLICT (model, partition) DO UPDATE
               SET event_time = greatest(watermark.event_time, $3)
            """,
            model, partition, event_time,
        )  # fmt: skip

    async def watermark(self, model: str, partitions: int) -> datetime | None:
        """Return the event time all partitions have reached, or None while one is silent."""
        reached: datetime | None = await self.conn.fetchval(
            """
            SELECT CASE WHEN count(*) >= $2 THEN min(event_time) END
              FROM watermark
             WHERE model = $1
            """,
            model, partitions,
        )  # fmt: skip
        return reached


def _rollout(row: asyncpg.Record) -> StoredRollout:
    event_id, correlation_id, traceparent = json.loads(row["cause"])
    return StoredRollout(
        model=row["model"],
        version=row["version"],
        run_id=str(row["run_id"]),
        request_id=str(row["request_id"]),
        state=State(
            Stage(row["stage"]), row["step"], row["extended"], row["paused"], row["awaiting"]
        ),
        since=row["since"],
        measured=json.loads(row["measured"]),
        epoch=row["epoch"],
        previous=row["previous"],
        bootstrap=row["bootstrap"],
        artifacts=Artifacts.model_validate_json(row["artifacts"]),
        spec=ModelSpec.model_validate_json(row["spec"]),
        bento_key=row["bento_key"],
        actor=row["actor"],
        reason=row["reason"],
        cause=Delivery(event_id, correlation_id, traceparent=traceparent),
    )
