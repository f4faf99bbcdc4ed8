"""Routes for versions and their evidence."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import AwareDatetime

from gyral.contracts.access import Scope
from gyral.contracts.events import Contract
from gyral.contracts.names import DatasetPin, ModelName, Uuid
from gyral.contracts.training import Artifacts
from gyral.contracts.versions import Check
from gyral.kit.access import Caller
from gyral.kit.http import scope
from gyral.kit.parameters import AfterVersion, Limit, VersionNumber, WaitS
from gyral.registry.api import Desk
from gyral.registry.api.specs import not_found
from gyral.registry.store.versions import StoredVersion

Reader = Annotated[Caller, scope(Scope.READ)]


class VersionView(Contract):
    """A version with everything its verdict rests on."""

    model: str
    version: int
    state: str
    run_id: str
    request_id: str
    cause: str
    as_of: AwareDatetime
    trained_until: AwareDatetime
    champion_version: int | None
    spec_generation: int
    code_sha256: str
    seed: int
    artifacts: Artifacts
    datasets: tuple[DatasetPin, ...]
    metrics: dict[str, float | None]
    checks: tuple[Check, ...]
    reasons: tuple[str, ...]


class RunVerdict(Contract):
    """What a run's result was judged to be."""

    state: str
    """pending, approved or rejected."""
    version: int | None = None
    reasons: tuple[str, ...] = ()


def routes(desk: Desk) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/v1/models/{name}/versions")
    async def versions(
        name: ModelName, _caller: Reader, after: AfterVersion = None, limit: Limit = 100
    ) -> list[VersionView]:
        """List a model's versions, newest first."""
        async with desk.begin() as tx:
            found = await tx.versions(name, after=after, limit=limit)
        return [_view(version) for version in found]

    @router.get("/v1/models/{name}/versions/{number}")
    async def version(name: ModelName, number: VersionNumber, _caller: Reader) -> VersionView:
        async with desk.begin() as tx:
            found = await tx.version(name, number)
        if found is None:
            raise not_found("version", f"{name}@{number}")
        return _view(found)

    @router.get("/v1/runs/{run_id}/version")
    async def verdict(run_id: Uuid, _caller: Reader, wait_s: WaitS = 0) -> RunVerdict:
        async def judged() -> bool:
            async with desk.begin() as tx:
                return await tx.version_of_run(run_id) is not None

        await desk.changes.wait_until(judged, wait_s)
        async with desk.begin() as tx:
            found = await tx.version_of_run(run_id)
        if found is None:
            return RunVerdict(state="pending")
        return RunVerdict(state=found.state, version=found.version, reasons=found.reasons)

    return router


def _view(version: StoredVersion) -> VersionView:
    return VersionView(
        model=version.model,
        version=version.version,
        state=version.state,
        run_id=version.run_id,
        request_id=version.request_id,
        cause=version.cause,
        as_of=version.as_of,
        trained_until=version.trained_until,
        champion_version=version.champion_version,
        spec_generation=version.spec_generation,
        code_sha256=version.code_sha256,
        seed=version.seed,
        artifacts=version.artifacts,
        datasets=version.datasets,
        metrics=version.metrics,
        checks=version.checks,
        reasons=version.reasons,
    )
