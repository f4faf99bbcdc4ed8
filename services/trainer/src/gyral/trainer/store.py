"""What the trainer remembers: requests with outcomes, runs, each stream's newest dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from gyral.contracts.data import DatasetCommitted
from gyral.contracts.events import Delivery
from gyral.contracts.names import DatasetPin
from gyral.contracts.training import Cause, RunRequested, RunSucceeded
from gyral.contracts.versions import ModelDeclared
from gyral.kit.leases import Job, Lost
from gyral.kit.tx import Tx
from gyral.trainer.domain.admission import InFlight, Suppressed
from gyral.trainer.domain.runs import State, stays_in_flight


@dataclass(frozen=True, slots=True)
class Dataset:
    """The newest committed version of a stream's table."""

    pin: DatasetPin
    table_uri: str


@dataclass(frozen=True, slots=True)
class Run:
    """One admitted request, as it stands."""

    run_id: str
    request_id: str
    model: str
    cause: Cause
    as_of: datetime
    declared: ModelDeclared
    """The model's declaration when it was admitted."""
    state: State
    in_flight: bool
    job_id: str | None
    """None while its data are not complete."""
    attempt: int
    stage: str
    share: float
    reason: str | None
    result: str | None
    """JSON of what was announced as its success."""
    origin: Delivery
    """How its request arrived."""
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Decided:
    """A request that was decided on."""

    model: str
    why: str | None
    detail: str | None
    run_id: str | None


_SELECT_RUN = """
            SELECT run_id, request_id, model, cause, as_of, spec, state, in_flight, job_id,
                   attempt, stage, share, reason, result, event_id, correlation_id,
                   traceparent, created_at, ended_at
              FROM run"""


class TrainerTx(Tx):
    """A transaction over requests, runs and datasets."""

    async def queue_up(self) -> None:
        """Let admissions, commits and cancellations pass one by one.

        No run waits for news it missed, and none gets a job while it is cancelled.
        """
        await self.conn.execute("SELECT pg_advisory_xact_lock(hashtext('trainer.queue'))")

    async def decided(self, request_id: str) -> Decided | None:
        """Return the outcome of a request, or None while it has none."""
        row = await self.conn.fetchrow(
            "SELECT model, why, detail, run_id FROM request WHERE request_id = $1", request_id
        )
        if row is None:
            return None
        return Decided(row["model"], row["why"], row["detail"], _id(row["run_id"]))

    async def suppress(self, request: RunRequested, suppressed: Suppressed) -> None:
        """Remember that a request became no run."""
        await self.conn.execute(
            """
            INSERT INTO request (request_id, model, cause, as_of, why, detail)
            VALUES ($1, $2, $3, $4, $5, $6)
            """,
            request.request_id, request.model, request.cause, request.as_of,
            suppressed.why, suppressed.detail,
        )  # fmt: skip

    async def admit(
        self, request: RunRequested, run_id: str, declared: ModelDeclared, origin: Delivery
    ) -> None:
        """Make a request a run, without a job yet."""
        await self.conn.execute(
            """
            INSERT INTO request (request_id, model, cause, as_of, run_id)
            VALUES ($1, $2, $3, $4, $5)
            """,
            request.request_id, request.model, request.cause, request.as_of, run_id,
        )  # fmt: skip
        spec = declared.spec.spec
        await self.conn.execute(
            """
            INSERT INTO run (run_id, request_id, model, cause, as_of, spec, spec_generation,
                             feature_stream, label_stream, state, in_flight,
                             event_id, correlation_id, traceparent)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, true, $11, $12, $13)
            """,
            run_id, request.request_id, request.model, request.cause, request.as_of,
            declared.model_dump_json(), declared.generation, spec.features.stream,
            spec.label.stream, State.QUEUED, origin.event_id, origin.correlation_id,
            origin.traceparent,
        )  # fmt: skip

    async def in_flight(self, model: str) -> InFlight | None:
        """Return the model's run in flight, or None."""
        row = await self.conn.fetchrow(
            "SELECT run_id, state FROM run WHERE model = $1 AND in_flight", model
        )
        return InFlight(str(row["run_id"]), row["state"] == State.SUCCEEDED) if row else None

    async def last_admitted(self, model: str) -> datetime | None:
        """Return the newest event time a run of the model was admitted for, or None."""
        newest = "SELECT max(as_of) FROM run WHERE model = $1"
        last: datetime | None = await self.conn.fetchval(newest, model)
        return last

    async def locked_run(self, run_id: str) -> Run | None:
        """Return a run that nobody else changes until this transaction ends, or None."""
        await self.conn.execute("SELECT true FROM run WHERE run_id = $1 FOR UPDATE", run_id)
        return await self.run(run_id)

    async def run(self, run_id: str) -> Run | None:
        """Return a run, or None."""
        row = await self.conn.fetchrow(f"{_SELECT_RUN} WHERE run_id = $1", run_id)
        return _run(row) if row else None

    async def runs(self, model: str | None, *, after: str | None, limit: int) -> list[Run]:
        """Return runs older than the run `after`, newest first, of one model or of all."""
        rows = await self.conn.fetch(
            f"""
            {_SELECT_RUN}
             WHERE ($1::text IS NULL OR model = $1)
               AND ($2::uuid IS NULL OR (created_at, run_id) <
                    (SELECT created_at, run_id FROM run WHERE run_id = $2))
             ORDER BY created_at DESC, run_id DESC
             LIMIT $3
            """,  # noqa: S608 - a constant of this module
            model, after, limit,
        )  # fmt: skip
        return [_run(row) for row in rows]

    async def complete_runs(self) -> list[Run]:
        """Return the waiting runs of whose streams all that was known by then may be used."""
        rows = await self.conn.fetch(
            f"""
            {_SELECT_RUN}
             WHERE state = 'queued' AND job_id IS NULL
               AND as_of <= (SELECT usable_until FROM dataset WHERE stream = feature_stream)
               AND as_of <= (SELECT usable_until FROM dataset WHERE stream = label_stream)
             ORDER BY created_at
            """,  # noqa: S608 - a constant of this module
        )
        return [_run(row) for row in rows]

    async def give_job(self, run_id: str, job_id: str) -> None:
        """Remember which job trains a run."""
        given = "UPDATE run SET job_id = $2, stage = 'queued' WHERE run_id = $1"
        await self.conn.execute(given, run_id, job_id)

    async def hold(self, job: Job) -> None:
        """Keep a job ours until this transaction ends.

        Raises:
            Lost: another worker has it, or it was cancelled.
        """
        held = await self.conn.fetchval(
            """
            SELECT true FROM job
             WHERE id = $1 AND token = $2 AND state = 'running'
               FOR UPDATE
            """,
            job.id, job.token,
        )  # fmt: skip
        if not held:
            raise Lost(f"job {job.id}: attempt {job.attempts} is no longer the holder's")

    async def start(self, run_id: str, state: State, attempt: int) -> None:
        """Remember that a worker took a run."""
        await self.conn.execute(
            """
            UPDATE run
               SET state = $2, attempt = $3, stage = 'starting', share = 0
             WHERE run_id = $1
            """,
            run_id, state, attempt,
        )  # fmt: skip

    async def progress(self, run_id: str, stage: str, share: float) -> None:
        """Remember how far a run is."""
        await self.conn.execute(
            "UPDATE run SET stage = $2, share = $3 WHERE run_id = $1", run_id, stage, share
        )

    async def end(self, run_id: str, state: State, *, reason: str | None = None) -> None:
        """Remember how a run ended short of success."""
        await self.conn.execute(
            """
            UPDATE run
               SET state = $2, in_flight = $3, reason = $4, stage = $2::text, ended_at = now()
             WHERE run_id = $1
            """,
            run_id, state, stays_in_flight(state), reason,
        )  # fmt: skip

    async def succeed(self, run_id: str, state: State, result: RunSucceeded) -> None:
        """Remember what a run made; it stays in flight until its verdict or rollout ends."""
        await self.conn.execute(
            """
            UPDATE run
               SET state = $2, in_flight = $3, result = $4, stage = $2::text, share = 1,
                   ended_at = now()
             WHERE run_id = $1
            """,
            run_id, state, stays_in_flight(state), result.model_dump_json(),
        )  # fmt: skip

    async def land(self, run_id: str) -> None:
        """End a succeeded run's flight; again is harmless."""
        await self.conn.execute(
            "UPDATE run SET in_flight = false WHERE run_id = $1 AND state = 'succeeded'", run_id
        )

    async def dataset(self, stream: str) -> Dataset | None:
        """Return a stream's newest dataset, or None before its first."""
        row = await self.conn.fetchrow(
            "SELECT stream, version, watermark, content, schema_version, table_uri "
            "FROM dataset WHERE stream = $1",
            stream,
        )
        if row is None:
            return None
        *pinned, table_uri = row.items()
        return Dataset(DatasetPin.model_validate(dict(pinned)), table_uri[1])

    async def missing(self, streams: Sequence[str]) -> tuple[str, ...]:
        """Return the streams that have no dataset yet."""
        listed = "SELECT stream FROM dataset WHERE stream = ANY($1::text[])"
        known = await self.conn.fetch(listed, list(streams))
        return tuple(sorted(set(streams) - {row["stream"] for row in known}))

    async def advance_dataset(self, committed: DatasetCommitted) -> None:
        """Remember a stream's newest dataset; an older one changes nothing."""
        pin = committed.dataset
        await self.conn.execute(
            """
            INSERT INTO dataset (stream, version, watermark, table_uri, content, schema_version,
                                 usable_until)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
                ON CONFLICT (stream) DO UPDATE
               SET version = $2, watermark = greatest(dataset.watermark, $3), table_uri = $4,
                   content = $5, schema_version = $6,
                   usable_until = greatest(dataset.usable_until, $7)
             WHERE dataset.version <= $2
            """,
            pin.stream, pin.version, pin.watermark, committed.table_uri,
            pin.content, pin.schema_version, committed.usable_until,
        )  # fmt: skip


def _id(found: object | None) -> str | None:
    return None if found is None else str(found)


def _run(row: asyncpg.Record) -> Run:
    return Run(
        run_id=str(row["run_id"]),
        request_id=str(row["request_id"]),
        model=row["model"],
        cause=Cause(row["cause"]),
        as_of=row["as_of"],
        declared=ModelDeclared.model_validate_json(row["spec"]),
        state=State(row["state"]),
        in_flight=row["in_flight"],
        job_id=_id(row["job_id"]),
        attempt=row["attempt"],
        stage=row["stage"],
        share=row["share"],
        reason=row["reason"],
        result=row["result"],
        origin=Delivery(row["event_id"], row["correlation_id"], traceparent=row["traceparent"]),
        created_at=row["created_at"],
        ended_at=row["ended_at"],
    )
