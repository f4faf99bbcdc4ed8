"""Long and periodic work.

Preparing approved versions, exporting Bentos, keeping the runtime in step with the routes.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

import httpx
import msgspec

from gyral.contracts.deployment import Datatype, Input, RouteChanged
from gyral.contracts.names import BlobRef
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.specs.stream import Clock, FieldType
from gyral.contracts.training import Artifacts
from gyral.deployer.domain.rollouts import Stage
from gyral.deployer.engine.bento import VersionFiles, build_bento
from gyral.deployer.store import DeployerTx
from gyral.deployer.store.rollouts import StoredRollout
from gyral.deployer.store.specs import Specs
from gyral.deployer.store.transitions import Moment, Surroundings, slot
from gyral.kit.blobs import Blobs
from gyral.kit.changes import Changes
from gyral.kit.leases import Job, Jobs
from gyral.kit.telemetry import get_log, span
from gyral.kit.tx import Begin

log = get_log()

DATATYPES = {
    FieldType.STRING: Datatype.BYTES,
    FieldType.INTEGER: Datatype.INT64,
    FieldType.NUMBER: Datatype.FP64,
    FieldType.BOOLEAN: Datatype.BOOL,
}


LINGER = timedelta(minutes=1)
"""How long a version stays loaded after its rollout and after its route ceased to name it: a
gateway may follow an older route."""


class RefusedByRuntimeError(ValueError):
    """The runtime looked at the version and will not serve it; trying again changes nothing."""


class NotNowError(ConnectionError):
    """The runtime has no room, or its store is away: nothing is said of the version."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """The runtime's control routes, as an operator sees them."""

    client: httpx.AsyncClient
    """With the runtime's address and the service key."""

    async def load(self, name: str, artifacts: Artifacts) -> None:
        """Have a version fetched, checked, warmed up and held; again is harmless.

        Raises:
            RefusedByRuntimeError: the version failed a check; the message says which.
            NotNowError: it is to be tried again later; the message says what for.
            OSError: the runtime is away.
        """
        # Without `code`, as ONNX has none: older runtimes read no more than they know.
        body = artifacts.model_dump(
            mode="json", include={"onnx", "manifest", "golden", "code"}, exclude_none=True
        )
        await self._post(f"/v2/repository/models/{name}/load", body)

    async def unload(self, name: str) -> None:
        """Have a version dropped; one that is not held is no error."""
        await self._post(f"/v2/repository/models/{name}/unload", {})

    async def held(self) -> dict[str, str]:
        """Return the digest of every version that is ready, by slot."""
        answer = await self._post("/v2/repository/index", {})
        return {row["name"]: row["sha256"] for row in answer if row["state"] == "READY"}

    async def _post(self, path: str, body: dict[str, object]) -> list[dict[str, str]]:
        try:
            answer = await self.client.post(path, json=body)
        except httpx.TransportError as error:
            raise ConnectionError(
                f"runtime: expected an answer to {path}; found {type(error).__name__}"
            ) from error
        if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            log.warning("runtime.waits", path=path, reason=answer.text[:400])
            raise NotNowError(f"runtime: expected 200 to {path}; found {answer.text[:400]}")
        if answer.is_server_error or answer.status_code in (401, 403, 408, 429):
            raise ConnectionError(
                f"runtime: expected 200 to {path}; found {answer.status_code}"
            )
        if answer.is_client_error:
            raise RefusedByRuntimeError(answer.text[:400])
        found: list[dict[str, str]] = (
            msgspec.json.decode(answer.content) if answer.content else []
        )
        return found


@dataclass(frozen=True, slots=True)
class Runtimes:
    """Every runtime of this deployer; all are to hold the same versions.

    One that is away is passed over: it is brought into step when it is back.
    """

    each: tuple[Runtime, ...]

    async def load(self, name: str, artifacts: Artifacts) -> None:
        """Have every runtime that is there hold a version; where none is, raise as one does.

        Raises:
            RefusedByRuntimeError: one of them refuses it.
        """
        said = await asyncio.gather(
            *(runtime.load(name, artifacts) for runtime in self.each), return_exceptions=True
        )
        away = [one for one in said if isinstance(one, ConnectionError)]
        for one in said:
            if isinstance(one, BaseException) and one not in away:
                raise one
        if len(away) == len(said):
            raise away[0]


@dataclass(frozen=True, slots=True)
class Preparation:
    """Takes an approved version from its bytes to its first traffic."""

    begin: Begin[DeployerTx]
    jobs: Jobs
    runtimes: Runtimes
    specs: Specs
    addresses: tuple[str, ...]
    """The runtimes' data sockets, as routes name them."""
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
            refusal = None
            try:
                await self.runtimes.load(
                    slot(rollout.model, rollout.version), rollout.artifacts
                )
            except RefusedByRuntimeError as error:
                refusal = str(error)
            around = await self._around(rollout.spec)
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

    async def _around(self, spec: ModelSpec) -> Surroundings:
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
        return Surroundings(self.addresses, stream.spec.clock is Clock.EVENT, inputs)


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


@dataclass(frozen=True, slots=True)
class Addressing:
    """Has every route name the runtimes that this deployer looks after, and no others."""

    begin: Begin[DeployerTx]
    runtimes: Mapping[str, Runtime]
    """By the data socket that routes name, in the order they do."""
    now: Callable[[], datetime]
    changes: Changes

    async def run_once(self) -> None:
        """Publish anew each route that names others: a runtime was added or taken away.

        One that was added is named once it holds every version of the route. A step under way
        goes on at the new epoch.
        """
        async with self.begin() as tx:
            routes = await tx.routes()
        stale = [each.model for each in routes if each.runtimes != tuple(self.runtimes)]
        if not stale:
            return
        found = await asyncio.gather(*map(_held, self.runtimes.values()))
        held = dict(zip(self.runtimes, found, strict=True))
        for model in stale:
            await self._readdress(model, held)
        self.changes.notify()

    async def _readdress(self, model: str, held: Mapping[str, Mapping[str, str]]) -> None:
        async with self.begin() as tx:
            await tx.hold(model)
            route = await tx.route(model)
            if route is None:
                return
            named = tuple(
                address
                for address in self.runtimes
                if address in route.runtimes or _covers(held[address], route)
            )
            if named and named != route.runtimes:
                await tx.readdress(route, named, self.now())
                log.info("route.readdressed", model=model, runtimes=len(named))


async def _held(runtime: Runtime) -> dict[str, str]:
    """Return what a runtime holds; nothing while it does not say."""
    try:
        return await runtime.held()
    except (ConnectionError, RefusedByRuntimeError) as error:
        log.warning("runtime.unknown", error=str(error))
        return {}


def _covers(held: Mapping[str, str], route: RouteChanged) -> bool:
    return all(held.get(share.slot) == share.sha256 for share in route.shares)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Compares what routes name with what one runtime holds: no less, and no leftovers."""

    begin: Begin[DeployerTx]
    runtime: Runtime
    now: Callable[[], datetime]

    async def run_once(self) -> None:
        """Load every routed version that the runtime does not hold with the routed bytes.

        Versions whose rollout is over and that no route has named for a while are unloaded
        before: they take the room that others wait for.
        """
        held = await self.runtime.held()
        async with self.begin() as tx:
            routes = await tx.routes()
            over = await tx.over(held, before=self.now() - LINGER)
        routed = {share.slot for route in routes for share in route.shares}
        for name in sorted(over - routed):
            await self._unload(name)
        for route in routes:
            for share in route.shares:
                if held.get(share.slot) != share.sha256:
                    await self._load(route, share.version, share.slot)

    async def _unload(self, name: str) -> None:
        try:
            await self.runtime.unload(name)
        except (RefusedByRuntimeError, NotNowError) as refusal:
            log.warning("runtime.kept", slot=name, error=str(refusal))
        else:
            log.info("runtime.unloaded", slot=name)

    async def _load(self, route: RouteChanged, version: int, name: str) -> None:
        async with self.begin() as tx:
            rollout = await tx.rollout(route.model, version)
        if rollout is not None:
            try:
                await self.runtime.load(name, rollout.artifacts)
            except (RefusedByRuntimeError, NotNowError) as refusal:
                # One that is not taken must not keep the others from being looked after.
                log.warning(
                    "runtime.refused", model=route.model, version=version, error=str(refusal)
                )
            else:
                log.warning("runtime.reloaded", model=route.model, version=version)
