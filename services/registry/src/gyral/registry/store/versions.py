"""Versions with their verdicts, champions, bootstraps, and how far the data are."""

import json
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from gyral.contracts.names import DatasetPin
from gyral.contracts.training import Artifacts, RunSucceeded
from gyral.contracts.versions import Check
from gyral.registry.domain.verdict import Verdict
from gyral.registry.store.audit import AuditTx


@dataclass(frozen=True, slots=True)
class Champion:
    """The version that serves a model, by decision."""

    version: int
    previous: int | None
    generation: int
    epoch: int
    as_of: datetime


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version as it was registered and judged."""

    model: str
    version: int
    run_id: str
    request_id: str
    state: str
    cause: str
    as_of: datetime
    trained_until: datetime
    champion_version: int | None
    spec_generation: int
    code_sha256: str
    seed: int
    artifacts: Artifacts
    datasets: tuple[DatasetPin, ...]
    metrics: dict[str, float | None]
    checks: tuple[Check, ...]
    reasons: tuple[str, ...]


_COLUMNS = """model, version, run_id, request_id, state, cause, as_of, trained_until,
              champion_version, spec_generation, code_sha256, seed, artifacts, datasets,
              metrics, checks, reasons"""


class VersionTx(AuditTx):
    """A transaction over versions and champions."""

    async def next_version(self, model: str) -> int:
        """Return the number the model's next version gets.

        The caller holds the model's spec locked.
        """
        number: int = await self.conn.fetchval(
            "SELECT coalesce(max(version), 0) + 1 FROM version WHERE model = $1", model
        )
        return number

    async def add_version(
        self, run: RunSucceeded, number: int, verdict: Verdict, *, now: datetime
    ) -> None:
        """Register a run's result together with its verdict."""
        await self.conn.execute(
            f"""
            INSERT INTO version ({_COLUMNS}, registered_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9,
                    $10, $11, $12, $13, $14, $15, $16, $17, $18)
            """,  # noqa: S608 - a constant of this module
            run.model, number, run.run_id, run.request_id,
            "approved" if verdict.approved else "rejected",
            run.cause, run.as_of, run.trained_until,
            run.champion_version, run.spec_generation, run.code_sha256, run.seed,
            run.artifacts.model_dump_json(),
            json.dumps([pin.model_dump(mode="json") for pin in run.datasets]),
            json.dumps(run.metrics),
            json.dumps([check.model_dump(mode="json") for check in verdict.checks]),
            json.dumps(verdict.reasons), now,
        )  # fmt: skip

    async def version(self, model: str, number: int) -> StoredVersion | None:
        """Return one version, or None."""
        row = await self.conn.fetchrow(
            f"SELECT {_COLUMNS} FROM version WHERE model = $1 AND version = $2",  # noqa: S608
            model, number,
        )  # fmt: skip
        return _version(row) if row else None

    async def version_of_run(self, run_id: str) -> StoredVersion | None:
        """Return the version a run became, or None while it has not."""
        row = await self.conn.fetchrow(
            f"SELECT {_COLUMNS} FROM version WHERE run_id = $1",  # noqa: S608
            run_id,
        )
        return _version(row) if row else None

    async def versions(
        self, model: str, *, after: int | None, limit: int
    ) -> list[StoredVersion]:
        """Return up to `limit` of a model's versions before `after`, newest first."""
        rows = await self.conn.fetch(
            f"""
            SELECT {_COLUMNS}
              FROM version
             WHERE model = $1 AND ($2::integer IS NULL OR version < $2)
             ORDER BY version DESC
             LIMIT $3
            """,  # noqa: S608 - a constant of this module
            model, after, limit,
        )  # fmt: skip
        return [_version(row) for row in rows]

    async def newest_of_torch(self, model: str) -> int | None:
        """Return the newest approved version that is served as torch, or None."""
        number: int | None = await self.conn.fetchval(
            """
            SELECT max(version) FROM version
             WHERE model = $1 AND state = 'approved' AND artifacts ->> 'code' IS NOT NULL
            """,
            model,
        )
        return number

    async def champion(self, model: str) -> Champion | None:
        """Return the model's champion, or None before its first."""
        row = await self.conn.fetchrow(
            """
            SELECT version, previous, generation, epoch, as_of
              FROM champion
             WHERE model = $1
            """,
            model,
        )
        return Champion(**row) if row else None

    async def set_champion(self, model: str, champion: Champion) -> None:
        """Make this the model's only champion."""
        await self.conn.execute(
            """
            INSERT INTO champion (model, generation, version, previous, epoch, as_of)
            VALUES ($1, $2, $3, $4, $5, $6)
                ON CONFLICT (model) DO UPDATE
               SET generation = $2, version = $3, previous = $4, epoch = $5, as_of = $6
            """,
            model, champion.generation, champion.version, champion.previous, champion.epoch,
            champion.as_of,
        )  # fmt: skip


def _version(row: asyncpg.Record) -> StoredVersion:
    return StoredVersion(
        model=row["model"],
        version=row["version"],
        run_id=str(row["run_id"]),
        request_id=str(row["request_id"]),
        state=row["state"],
        cause=row["cause"],
        as_of=row["as_of"],
        trained_until=row["trained_until"],
        champion_version=row["champion_version"],
        spec_generation=row["spec_generation"],
        code_sha256=row["code_sha256"],
        seed=row["seed"],
        artifacts=Artifacts.model_validate_json(row["artifacts"]),
        datasets=tuple(DatasetPin.model_validate(pin) for pin in json.loads(row["datasets"])),
        metrics=json.loads(row["metrics"]),
        checks=tuple(Check.model_validate(check) for check in json.loads(row["checks"])),
        reasons=tuple(json.loads(row["reasons"])),
    )
