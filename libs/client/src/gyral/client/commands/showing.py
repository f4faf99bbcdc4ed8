"""`gyral get`, `runs` and `trace`: how things stand."""

import argparse
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from gyral.client import addresses
from gyral.client.answers import Outcome
from gyral.client.calls import PAGE, Api, Platform, Row
from gyral.client.commands import output
from gyral.client.commands.existing import must_exist
from gyral.client.errors import ClientError

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "streams": ("name", "generation", "rows", "watermark"),
    "models": ("name", "generation", "champion", "previous", "champion_since"),
    "versions": ("version", "state", "cause", "as_of", "champion_version", "reasons"),
    "keys": ("key_id", "name", "scopes", "models", "expires_at", "revoked"),
    "runtimes": ("name", "wanted", "ready", "since", "why"),
    "alarms": ("window_start", "detector", "version", "measured", "threshold", "request_id"),
}
_OF_ONE_MODEL = ("versions", "alarms")
_RUNS = ("run_id", "model", "cause", "as_of", "state", "stage", "reason")
_TRACED = (
    "as_of",
    "cause",
    "outcome",
    "version",
    "verdict",
    "rollout",
    "request_id",
    "trace_id",
)


async def get(given: argparse.Namespace) -> int:
    """Show things of one kind."""
    kind, name = given.kind, given.name
    if kind in _OF_ONE_MODEL and name is None:
        raise ClientError(f"get {kind}: expected a model's name after it; found none")
    if kind == "keys" and name is not None:
        raise ClientError(f"get keys: expected no name, it lists all; found {name[:80]!r}")
    part, limit = quote(name or "", safe=""), given.limit
    async with Platform(addresses.find()) as platform:
        match kind:
            case "streams" | "models" if name:
                found = [await platform["registry"].get(f"/v1/{kind}/{part}", Row)]
            case "streams" | "models":
                found = await platform["registry"].listed(f"/v1/{kind}", "name", limit)
            case "keys":
                found = await platform["registry"].listed("/v1/keys", "key_id", limit)
            case "runtimes":
                found = await _groups(platform["deployer"], name)
            case "versions":
                path = f"/v1/models/{part}/versions"
                found = await platform["registry"].listed(path, "version", limit)
            case _:
                path = f"/v1/models/{part}/alarms"
                found = await platform["monitor"].listed(path, "window_start", limit)
        if not found and kind in _OF_ONE_MODEL:
            await must_exist(platform, "models", name)
    output.rows(found, _COLUMNS[kind], given.output)
    return 0


async def _groups(deployer: Api, name: str | None) -> list[Row]:
    """Return the groups of runtimes, or the one of this name."""
    found = await deployer.get("/v1/runtimes", list[Row])
    wanted = [each for each in found if name in {None, each["name"]}]
    if name is not None and not wanted:
        known = ", ".join(str(each["name"]) for each in found) or "none"
        raise ClientError(f"get runtimes: expected one of {known}; found {name!r}")
    return wanted


async def runs(given: argparse.Namespace) -> int:
    """List trainings, newest first."""
    only = {"model": given.model} if given.model else {}
    async with Platform(addresses.find()) as platform:
        found = await platform["trainer"].listed("/v1/runs", "run_id", given.limit, only)
        if not found:
            await must_exist(platform, "models", given.model)
    output.rows(found, _RUNS, given.output)
    return 0


async def trace(given: argparse.Namespace) -> int:
    """Follow a model's loop: request, run, verdict, rollout, one line each.

    Requests that came to no run are shown as well. A trace's id is known only where the
    instance is: no service tells it.
    """
    model = quote(given.model, safe="")
    async with Platform(addresses.find()) as platform:
        only = {"model": given.model}
        ran = await platform["trainer"].listed("/v1/runs", "run_id", params=only)
        if not ran:
            await must_exist(platform, "models", given.model)
        path = f"/v1/models/{model}"
        judged = await platform["registry"].listed(f"{path}/versions", "version")
        rolled = await platform["deployer"].listed(f"{path}/rollouts", "version")
        measured = await platform["monitor"].get(f"{path}/progress", Row, {"limit": PAGE})
        asked = {str(each["request_id"]): each for each in [*_requests(measured), *ran]}
        outcomes = {
            each: await platform["trainer"].get(f"/v1/requests/{each}", Outcome)
            for each in asked
        }
    by_run = {each["run_id"]: each for each in judged}
    by_version = {each["version"]: each for each in rolled}
    traces = await _trace_ids(list(asked))
    found: list[Row] = []
    for request_id, request in sorted(asked.items(), key=lambda each: str(each[1]["as_of"])):
        outcome = outcomes[request_id]
        version = by_run.get(outcome.run_id, {})
        step = by_version.get(version.get("version"), {})
        found.append(
            {
                "as_of": request["as_of"],
                "cause": request["cause"],
                "outcome": outcome.outcome,
                "reason": outcome.reason,
                "version": version.get("version"),
                "verdict": version.get("state"),
                "rollout": step.get("stage"),
                "epoch": step.get("epoch"),
                "request_id": request_id,
                "trace_id": traces.get(request_id),
            }
        )
    output.rows(found, _TRACED, given.output)
    return 0


def _requests(measured: Row) -> Sequence[Row]:
    requests = measured.get("requests")
    return requests if isinstance(requests, list) else []


async def _trace_ids(request_ids: Sequence[str]) -> Mapping[str, str]:
    settings = addresses.variables(addresses.home())
    if "AUDITOR_DATABASE_SECRET" not in settings:
        return {}
    from gyral.client.audit import checking, failing, tracing  # noqa: PLC0415 - heavy

    with failing.told_in_a_line():
        async with checking.database(settings) as connection:
            return await tracing.ids(connection, request_ids)
