"""Preparing an approved version for its first traffic, and exporting its Bento."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from gyral.contracts.deployment import Datatype, Input
from gyral.contracts.names import BlobRef
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.specs.serving import Placement
from gyral.contracts.specs.stream import Clock, FieldType
from gyral.deployer.domain.rollouts import Stage
from gyral.deployer.engine.backend import Flavour
from gyral.deployer.engine.bento import VersionFiles, build_bento
from gyral.deployer.engine.groups import NO_BACKEND, Groups
from gyral.deployer.engine.runtimes import NotNowError, RefusedByRuntimeError, Runtimes
from gyral.deployer.store import DeployerTx
from gyral.deployer.store.rollouts import StoredRollout
from gyral.deployer.store.specs import Specs
from gyral.deployer.store.transitions import Moment, Surroundings, slot
from gyral.kit.blobs import Blobs
from gyral.kit.changes import Changes
from gyral.kit.leases import Job, Jobs
from gyral.kit.telemetry import span
from gyral.kit.tx import Begin

DATATYPES = {
    FieldType.STRING: Datatype.BYTES,
    FieldType.INTEGER: Datatype.INT64,
    FieldType.NUMBER: Datatype.FP64,
    FieldType.BOOLEAN: Datatype.BOOL,
}


@dataclass(frozen=True, slots=True)
class Preparation:
    """Takes an approved version from its bytes to its first traffic."""

    begin: Begin[DeployerTx]
    jobs: Jobs
    groups: Groups
    specs: Specs
    wake: Callable[[str, str], Awaitable[None]]
    """Has a group have a runtime, where it has none, for a reason."""
    now: Callable[[], datetime]
    changes: Changes

    async def run(self, job: Job) -> None:
        """Load and warm up the version, then give it its first route, or take it back.

        A full runtime has it wait until what is needed no more was unloaded.
        """
        rollout = await self._rollout(job)
        if rollout.state.stage is not Stage.WARMING:
            return
        with span(
            "rollout.prepare",
            parent=rollout.cause.traceparent,
            model=rollout.model,
            version=rollout.version,
        ):
            refusal: str | None = None
            addresses: tuple[str, ...] = ()
            try:
                addresses = await self._load(rollout)
            except RefusedByRuntimeError as error:
                refusal = str(error)
            around = await self._around(rollout.spec, addresses)
            async with self.begin() as tx:
                await tx.hold(rollout.model)
                current = await tx.rollout(rollout.model, rollout.version)
                if current is None or current.state.stage is not Stage.WARMING:
                    return
                if refusal is None:
                    await tx.go_live(current, around, self.now())
                else:
                    await tx.abort(current, f"warm-up: {refusal}", {}, Moment(self.now()))
        self.changes.notify()

    async def gave_up(self, job: Job, reason: str) -> None:
        """Take back a version that could not be prepared in any attempt."""
        rollout = await self._rollout(job)
        async with self.begin() as tx:
            await self.jobs.fail(tx, job, reason)
            await tx.hold(rollout.model)
            current = await tx.rollout(rollout.model, rollout.version)
            if current is not None and current.state.stage is Stage.WARMING:
                await tx.abort(current, f"preparation: {reason}", {}, Moment(self.now()))
        self.changes.notify()

    async def _rollout(self, job: Job) -> StoredRollout:
        async with self.begin() as tx:
            rollout = await tx.rollout(str(job.spec["model"]), int(str(job.spec["version"])))
        if rollout is None:
            raise LookupError(f"job {job.id}: expected a rollout of {job.spec}; found none")
        return rollout

    async def _load(self, rollout: StoredRollout) -> tuple[str, ...]:
        """Have the model's group hold the version; return its runtimes' data addresses.

        Raises:
            RefusedByRuntimeError: none ever will hold it.
            NotNowError: the group's first runtime is on its way.
        """
        name = rollout.model
        serving = self.specs.serving(name) or rollout.spec.spec.serving
        if serving.runtime is Placement.OWN and self.groups.backend is None:
            raise RefusedByRuntimeError(NO_BACKEND)
        group = self.groups.group_of(name, serving)
        if self.groups.makes(group):
            await self.wake(group, f"version {rollout.version} of {name} is prepared")
        seats = (await self.groups.seats()).get(group, ())
        if not any(seat.ready for seat in seats):
            raise NotNowError(f"group {group}: expected a runtime; found none that is ready")
        if rollout.artifacts.code and any(seat.flavour is Flavour.ONNX for seat in seats):
            raise NotNowError(
                f"group {group}: expected runtimes of flavour torch; found onnx: they are "
                "made anew"
            )
        await Runtimes(tuple(seat.runtime for seat in seats)).load(
            slot(name, rollout.version), rollout.artifacts
        )
        return tuple(seat.address for seat in seats)

    async def _around(self, spec: ModelSpec, addresses: tuple[str, ...]) -> Surroundings:
        """Return what the spec's stream says of the model's inputs and clock."""
        stream = await self.specs.stream(spec.spec.features.stream)
        fields = stream.spec.fields
        inputs = tuple(
            Input(
                name=field,
                datatype=DATATYPES[fields[field].type],
                nullable=fields[field].nullable,
            )
            for field in spec.spec.features.fields
        )
        return Surroundings(addresses, stream.spec.clock is Clock.EVENT, inputs)


@dataclass(frozen=True, slots=True)
class Export:
    """Builds the Bento of an approved version, beside its rollout and never in its way."""

    begin: Begin[DeployerTx]
    blobs: Blobs

    async def run(self, job: Job) -> None:
        """Build the Bento and keep it; the same version gives the same key."""
        model, version = str(job.spec["model"]), int(str(job.spec["version"]))
        async with self.begin() as tx:
            rollout = await tx.rollout(model, version)
        if rollout is None:
            raise LookupError(
                f"job {job.id}: expected a rollout of {model}@{version}; found none"
            )
        made = rollout.artifacts
        file, manifest = await asyncio.gather(*map(self._bytes, (made.onnx, made.manifest)))
        code = None if made.code is None else await self._bytes(made.code)
        bento = await build_bento(VersionFiles(model, version, file, manifest, code))
        ref = await self.blobs.put_bytes(f"bentos/{model}/{version}.bento", bento)
        async with self.begin() as tx:
            await tx.keep_bento(model, version, ref.key)

    async def _bytes(self, ref: BlobRef) -> bytes:
        return await self.blobs.get_bytes(ref)
