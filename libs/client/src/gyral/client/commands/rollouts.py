"""`gyral rollout`: how versions take over, and an operator's word on it."""

import argparse
from urllib.parse import quote

import orjson

from gyral.client import addresses
from gyral.client.answers import Counted, Decided, Rollout, Share
from gyral.client.calls import Api, Platform, Row
from gyral.client.commands import emergencies, output
from gyral.client.commands.existing import must_exist
from gyral.client.errors import ClientError

_COLUMNS = (
    "version",
    "stage",
    "weight",
    "answers",
    "epoch",
    "previous",
    "paused",
    "awaiting_approval",
    "actor",
    "reason",
)


async def show(given: argparse.Namespace) -> int:
    """Show a model's rollouts, or one, with what was decided and why."""
    async with Platform(addresses.find()) as platform:
        deployer, path = platform["deployer"], f"{_path(given.model)}/rollouts"
        if given.version is None:
            found = await deployer.listed(path, "version")
            if not found:
                await must_exist(platform, "models", given.model)
        else:
            found = [await deployer.get(f"{path}/{given.version}", Row)]
        found = await _with_answers(deployer, given.model, found)
    output.rows(found, _COLUMNS, given.output)
    if given.version is not None and given.output == "table":
        _measures(found[0])
    return 0


async def abort(given: argparse.Namespace) -> int:
    """Take back the version under way."""
    return await _order(given, "abort")


async def promote(given: argparse.Namespace) -> int:
    """Let the version under way answer alone."""
    return await _order(given, "promote")


async def pause(given: argparse.Namespace) -> int:
    """Hold the version under way in its step."""
    return await _order(given, "pause")


async def resume(given: argparse.Namespace) -> int:
    """Let a paused version go on."""
    return await _order(given, "resume")


async def approve(given: argparse.Namespace) -> int:
    """Let a version answer that awaits approval."""
    return await _order(given, "approve")


async def rollback(given: argparse.Namespace) -> int:
    """Have the previous champion answer alone again."""
    if given.emergency:
        return await emergencies.rollback(given)
    return await _order(given, "rollback")


async def _order(given: argparse.Namespace, order: str) -> int:
    body = orjson.dumps({"reason": given.reason})
    async with Platform(addresses.find()) as platform:
        deployer = platform["deployer"]
        version = given.version or await _meant(deployer, given.model, order)
        path = f"{_path(given.model)}/rollouts/{version}"
        await deployer.post(f"{path}/{order}", body, Rollout)
        found = [await deployer.get(path, Row)]
        found = await _with_answers(deployer, given.model, found)
    output.rows(found, _COLUMNS, given.output)
    return 0


async def _with_answers(deployer: Api, model: str, found: list[Row]) -> list[Row]:
    """Add what share of the requests each version answers by the route there is now.

    A warm one answers none, and is one step away.
    """
    route = await deployer.find(f"{_path(model)}/route", Decided)
    shares = {} if route is None else {each.version: each for each in route.shares}
    return [{**row, "answers": _answers(shares.get(int(str(row["version"]))))} for row in found]


def _answers(share: Share | None) -> str:
    if share is None:
        return "no"
    if share.shadow:
        return "shadow"
    return f"{share.weight}%" if share.weight else "warm"


def _measures(rollout: Row) -> None:
    """Print what both versions did in the step that was judged last."""
    measured = rollout.get("measured")
    if isinstance(measured, dict) and measured:
        output.say("")
        rows = [{"measured": name, "value": value} for name, value in measured.items()]
        output.rows(rows, ("measured", "value"), "table")


async def _meant(deployer: Api, model: str, order: str) -> int:
    """Return the version under way; to be rolled back, else the one that answers."""
    path = _path(model)
    counted = await deployer.get(f"{path}/progress", Counted)
    if counted.rollout is not None:
        return counted.rollout.version
    if order != "rollback":
        raise ClientError(
            f"rollout {order}: expected a version of {model} under way; found none"
        )
    route = await deployer.get(f"{path}/route", Decided)
    return max(route.shares, key=lambda share: share.weight).version


def _path(model: str) -> str:
    return f"/v1/models/{quote(model, safe='')}"
