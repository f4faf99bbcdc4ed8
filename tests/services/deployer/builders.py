"""Approvals, logged answers and a deployer's handlers with their database."""

import json
from dataclasses import replace
from datetime import UTC, datetime

from gyral.contracts.inference import PredictionLogged
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.specs.serving import Placement, Serving
from gyral.contracts.training import Cause
from gyral.contracts.versions import Check, VersionApproved
from gyral.deployer.domain.rollouts import Abort, Advance, Stage, State
from gyral.deployer.engine.backend import SHARED
from gyral.deployer.engine.groups import Groups, Seat
from gyral.deployer.handlers import Handlers
from gyral.deployer.jobs.following import Reconciliation
from gyral.deployer.store.specs import Specs
from gyral.deployer.store.transitions import Moment, Surroundings
from gyral.kit.batches import Batch, Slice
from gyral.kit.changes import Changes
from gyral.kit.jobs import Jobs
from gyral.testkit.events import delivered
from tests.services.deployer.test_routes import INPUTS
from tests.services.registry.builders import (
    END,
    NOW,
    REQUEST,
    RUN,
    a_model,
    a_stream,
    artifacts,
)

TOPIC = PredictionLogged.topic.name
AROUND = Surroundings(("unix:/run/gyral/runtime.sock",), event_clock=True, inputs=INPUTS)


class KnownSpecs(Specs):
    """One declared model, on an event clock unless told otherwise."""

    _on_event_clock: bool
    _rollout: dict[str, object]
    _serving: Serving

    def __init__(self, *, event_clock=True, serving=None, **rollout):
        object.__setattr__(self, "_on_event_clock", event_clock)  # its parent is frozen
        object.__setattr__(self, "_serving", Serving.model_validate(serving or {}))
        object.__setattr__(self, "_rollout", rollout)

    async def model(self, _name, _generation):
        plain = a_model().model_dump(mode="json")
        plain["spec"]["rollout"] |= self._rollout
        return ModelSpec.model_validate(plain)

    async def stream(self, _name):
        return a_stream()

    async def event_clock(self, _model):
        return self._on_event_clock

    def serving(self, _model):
        return self._serving

    def of_torch(self):
        return frozenset()

    def owning(self):
        own = self._serving.runtime is Placement.OWN
        return {"churn": self._serving} if own else {}


async def reconcile(deployer, runtime, now):
    """Have one shared runtime looked after, once."""
    looking = Reconciliation(deployer.opened, Groups(), KnownSpecs(), lambda: now)
    await looking.look_after(SHARED, Seat("unix:/r", runtime, ready=True, name="shared-0"))


async def nobody_wakes(group, why):
    """Have no group woken: none can be."""
    raise AssertionError(f"{group}: {why}")


class Record:
    """A Kafka record."""

    def __init__(self, offset, value, type_=TOPIC):
        self.offset, self.value, self.headers = offset, value, [("ce_type", type_.encode())]


def approved(version, *, bootstrap=False, against=None, made=None):
    event = VersionApproved(
        model="churn",
        version=version,
        run_id=RUN.replace("1111-4", f"{version:04d}-4"),
        request_id=REQUEST,
        cause=Cause.CUSUM,
        as_of=END,
        artifacts=made or artifacts(),
        bootstrap=bootstrap,
        champion_version=None if bootstrap else against or version - 1,
        spec_generation=1,
        checks=(Check(name="schema", passed=True),),
    )
    return delivered(event)


def answer(number, *, version, epoch, role="live", rows=100, failed=False, score=0.5, key=None):
    columns = {
        "request_id": f"00000000-0000-4000-8000-{number:012d}",
        "model": "churn",
        "version": version,
        "role": role,
        "epoch": epoch,
        "latency_us": 900,
        "probabilities": [None if failed else score] * rows,
        "entity_keys": [key] * rows,
    }
    return json.dumps(columns).encode()


def marker(day):
    at = datetime(2026, 2, day, tzinfo=UTC).isoformat()
    return json.dumps({"subject": "churn", "event_time": at}).encode()


class Deployer:
    """The handlers with their database, and a log that grows."""

    def __init__(self, pool, opened, *, event_clock=True, **rollout):
        self.pool, self.opened, self.offset = pool, opened, 0
        self.around = replace(AROUND, event_clock=event_clock)
        jobs = (Jobs(pool, "prepare"), Jobs(pool, "export"))
        specs = KnownSpecs(event_clock=event_clock, **rollout)
        self.now = NOW
        self.handlers = Handlers(opened, *jobs, specs, 3, lambda: self.now, Changes())

    async def live(self, version, **approval):
        await self.handlers.version_approved(approved(version, **approval))
        await self.go_live(version)

    async def go_live(self, version):
        async with self.opened() as tx:
            await tx.go_live(await tx.rollout("churn", version), self.around, NOW)

    async def promote(self, version, *, by=None):
        await self.take(version, Advance(State(Stage.COMPLETED)), by=by)

    async def abort(self, version):
        await self.take(version, Abort(State(Stage.ABORTED), "no good"))

    async def take(self, version, decision, *, by=None):
        async with self.opened() as tx:
            rollout = await tx.rollout("churn", version)
            await tx.take(rollout, decision, {}, Moment(NOW), by=by)

    async def log(self, *values, day=None):
        records = [Record(self.offset + place, value) for place, value in enumerate(values)]
        if day is not None:
            kind = "data.watermark.advanced.v1"
            records.append(Record(self.offset + len(values), marker(day), kind))
        await self.deliver(0, tuple(records), self.offset or None)
        self.offset += len(records)
        for partition in (1, 2):
            if day is not None:
                only = (Record(day, marker(day), "data.watermark.advanced.v1"),)
                await self.deliver(partition, only, await self.stored(partition))

    async def stored(self, partition):
        return await self.pool.fetchval(
            "SELECT next_offset FROM sink_offset WHERE partition = $1", partition
        )

    async def deliver(self, partition, records, first):
        batch = Batch((Slice(TOPIC, partition, records, first),), "deployer", self.opened)
        await self.handlers.predictions(batch)

    async def stage(self, version):
        async with self.opened() as tx:
            return (await tx.rollout("churn", version)).state

    async def published(self, event_type):
        rows = await self.pool.fetch(
            "SELECT value FROM outbox WHERE topic = $1 ORDER BY seq", event_type.topic.name
        )
        return [event_type.model_validate_json(row["value"]) for row in rows]
