"""The tables of every service in one database, and rows as the services would leave them."""

import json
import secrets
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib import resources
from uuid import NAMESPACE_OID, uuid5

import asyncpg

from gyral.kit.db import open_pool
from gyral.kit.migrate import migrate

SERVICES = ("validation", "trainer", "registry", "deployer", "monitor")
MODEL = "flights"
NOW = datetime.now(UTC)
SHA256 = "a" * 64


@asynccontextmanager
async def fresh_stores(stack):
    """Yield the address of a database with every service's schema; drop it after."""
    name = f"t_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(stack.postgres_admin_dsn)
    dsn = stack.postgres_admin_dsn.rpartition("/")[0] + f"/{name}"
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        for service in SERVICES:
            await _migrated(dsn, service)
        yield dsn
    finally:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.close()


async def _migrated(dsn, service):
    async with open_pool(f"{dsn}?search_path={service}", max_size=1) as pool:
        await pool.execute(f"CREATE SCHEMA {service}")
        folder = resources.files(f"gyral.{service}") / "migrations"
        await migrate(pool, folder, service=service)


def uuid_of(name):
    """Return the id that a name always has."""
    return str(uuid5(NAMESPACE_OID, name))


def ago(**span):
    """Return a time before now."""
    return NOW - timedelta(**span)


class Stores:
    """Plants rows; what a test leaves open gets a harmless value."""

    def __init__(self, connection):
        self.connection = connection

    async def insert(self, table, **values):
        """Insert a row."""
        names = ", ".join(values)
        places = ", ".join(f"${at}" for at, _ in enumerate(values, start=1))
        told = f"INSERT INTO {table} ({names}) VALUES ({places})"  # noqa: S608 - names of this module
        await self.connection.execute(told, *map(_stored, values.values()))

    async def suppressed(self, name, decided_at=NOW):
        """Plant a request that came to nothing."""
        await self.insert(
            "trainer.request",
            request_id=uuid_of(name),
            model=MODEL,
            cause="cusum",
            as_of=NOW,
            why="cooldown",
            decided_at=decided_at,
        )
        return uuid_of(name)

    async def run(self, name, state="succeeded", *, in_flight=False, began=NOW, ended=NOW):
        """Plant an admitted request and its run; return the request's id."""
        request_id, run_id = uuid_of(name), uuid_of(f"run {name}")
        of = {"request_id": request_id, "model": MODEL, "cause": "cusum", "as_of": NOW}
        await self.insert("trainer.request", **of, run_id=run_id, decided_at=began)
        await self.insert(
            "trainer.run",
            **of,
            run_id=run_id,
            spec="{}",
            spec_generation=1,
            feature_stream="f",
            label_stream="l",
            state=state,
            in_flight=in_flight,
            event_id="e",
            correlation_id="c",
            created_at=began,
            ended_at=ended,
        )
        return request_id

    async def route(self, *shares):
        """Plant the model's route; a share is (version, weight) or also its SHA-256."""
        told = [
            {
                "version": version,
                "weight": weight,
                "shadow": weight == 0,
                "sha256": rest[0] if rest else SHA256,
            }
            for version, weight, *rest in shares
        ]
        await self.insert("deployer.route", model=MODEL, epoch=1, event={"shares": told})

    async def champion(self, version):
        """Plant the model's champion."""
        await self.insert(
            "registry.champion", model=MODEL, generation=1, version=version, as_of=NOW
        )

    async def rollout(self, version, stage="completed", *, moved=NOW):
        """Plant a version's rollout."""
        await self.insert(
            "deployer.rollout",
            model=MODEL,
            version=version,
            run_id=uuid_of(f"run version {version}"),
            request_id=uuid_of(f"version {version}"),
            stage=stage,
            bootstrap=False,
            artifacts={},
            spec={},
            cause=[],
            updated_at=moved,
        )

    async def version(
        self, number, request_id, state="approved", cause="cusum", *, passed=True, judged=NOW
    ):
        """Plant a judged version."""
        await self.insert(
            "registry.version",
            model=MODEL,
            version=number,
            run_id=uuid_of(f"run version {number}"),
            request_id=request_id,
            state=state,
            cause=cause,
            as_of=NOW,
            trained_until=NOW,
            spec_generation=1,
            code_sha256=SHA256,
            seed=1,
            artifacts={"onnx": {"sha256": SHA256}},
            datasets=[],
            metrics={},
            checks=[{"name": "ece", "passed": True}, {"name": "slices", "passed": passed}],
            reasons=[],
            registered_at=judged,
        )

    async def audited(self, seq, action, version, **change):
        """Plant an entry of the audit log."""
        await self.insert(
            "registry.audit",
            seq=seq,
            at=NOW,
            actor="deployer",
            action=action,
            subject=f"{MODEL}@{version}",
            reason="because",
            change=change,
            previous="",
            hash=str(seq),
        )

    async def asked(self, name):
        """Plant a request of the monitor; return its id."""
        await self.insert(
            "monitor.request",
            request_id=uuid_of(name),
            model=MODEL,
            as_of_us=0,
            cause="cusum",
            evidence={},
        )
        return uuid_of(name)


def _stored(value):
    return json.dumps(value) if isinstance(value, dict | list) else value
