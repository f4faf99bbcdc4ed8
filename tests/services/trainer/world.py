"""A trainer's handlers on a database of their own, and what is asked of them."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources

from gyral.contracts.data import DatasetCommitted
from gyral.contracts.names import DatasetPin
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.training import Cause, RunRequested
from gyral.contracts.versions import ModelDeclared
from gyral.kit.changes import Changes
from gyral.kit.db import Pool
from gyral.kit.leases import Jobs
from gyral.kit.tx import begin
from gyral.testkit.backends import migrated_pool
from gyral.testkit.events import delivered
from gyral.trainer.domain.runs import State
from gyral.trainer.handlers import Handlers
from gyral.trainer.store import TrainerTx

from .conftest import AS_OF, model_body


@dataclass
class World:
    """A trainer's handlers on a database of their own, and what was asked of them."""

    pool: Pool
    declared: dict[str, ModelDeclared] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begin = begin(self.pool, TrainerTx, service="trainer")
        self.jobs = Jobs(self.pool, "train")
        self.handlers = Handlers(
            begin=self.begin, declared=self._declared, jobs=self.jobs, changes=Changes()
        )

    async def _declared(self, model: str, _generation: int) -> ModelDeclared | None:
        return self.declared.get(model)

    def declare(self) -> str:
        name = f"model-{uuid.uuid4().hex[:12]}"
        document = {
            "apiVersion": "gyral/v1",
            "kind": "Model",
            "metadata": {"name": name},
            "spec": model_body(),
        }
        spec = ModelSpec.model_validate(document)
        self.declared[name] = ModelDeclared(name=name, generation=1, spec=spec)
        return name

    async def request(self, model: str, cause: Cause, as_of=AS_OF, **evidence: str) -> str:
        asked = RunRequested(
            request_id=str(uuid.uuid4()),
            model=model,
            cause=cause,
            as_of=as_of,
            evidence=dict(evidence),
        )
        await self.handlers.run_requested(delivered(asked))
        return asked.request_id

    async def commit(
        self, stream: str, version: int, watermark=AS_OF, *, passed_until=None, **pinned
    ) -> None:
        pin = DatasetPin(stream=stream, version=version, watermark=watermark, **pinned)
        event = DatasetCommitted(
            dataset=pin,
            rows=1,
            table_uri=f"s3://gyral/lake/{stream}",
            passed_until=passed_until,
        )
        await self.handlers.dataset_committed(delivered(event))

    async def run_of(self, request_id):
        run_id = await self.pool.fetchval(
            "SELECT run_id FROM request WHERE request_id = $1", request_id
        )
        return None if run_id is None else str(run_id)

    async def why(self, request_id: str) -> str | None:
        why: str | None = await self.pool.fetchval(
            "SELECT why FROM request WHERE request_id = $1", request_id
        )
        return why

    async def finish(self, run_id: str, state: State) -> None:
        """Bring a run where training leaves it."""
        async with self.begin() as tx:
            await tx.conn.execute(
                "UPDATE run SET state = $2, in_flight = $3 WHERE run_id = $1",
                run_id,
                state,
                state is State.SUCCEEDED,
            )

    async def said(self) -> list[str]:
        rows = await self.pool.fetch("SELECT topic FROM outbox ORDER BY seq")
        return [row["topic"].removeprefix("training.run.").removesuffix(".v1") for row in rows]

    async def claimed(self):
        """Admit a run whose data are there, and claim its job."""
        for stream in ("rides", "ends"):
            await self.commit(stream, 0)
        run_id = await self.run_of(await self.request(self.declare(), Cause.BOOTSTRAP))
        async with self.begin() as tx:
            run = await tx.run(run_id)
        return run, await self.jobs.claim("worker", 30)


@asynccontextmanager
async def a_world(postgres_dsn: str) -> AsyncIterator[World]:
    migrations = resources.files("gyral.trainer") / "migrations"
    async with migrated_pool(postgres_dsn, service="trainer", migrations=migrations) as pool:
        yield World(pool)
