"""`gyral blocks`: what came out of a stream's blocks of event time, and their release."""

import argparse
from urllib.parse import quote

import msgspec
import orjson

from gyral.client import addresses
from gyral.client.calls import Platform
from gyral.client.commands import output
from gyral.client.commands.existing import must_exist

_COLUMNS = (
    "id",
    "expectation",
    "severity",
    "start",
    "end",
    "rows",
    "measured",
    "expected",
    "outcome",
    "released_by",
)


class Released(msgspec.Struct, frozen=True):
    """Which blocks one call released."""

    released: int
    ids: list[int]


async def ls(given: argparse.Namespace) -> int:
    """List judged blocks in the order of judgement."""
    async with Platform(addresses.find()) as platform:
        found = await platform["validation"].listed(
            _path(given.stream), "id", given.limit, {"state": given.state}
        )
        if not found:
            await must_exist(platform, "streams", given.stream)
    output.rows(found, _COLUMNS, given.output)
    return 0


async def release(given: argparse.Namespace) -> int:
    """Let failed blocks count as passed: the named ones, or call after call all there are."""
    asked = {"ids": given.id, "because": given.because}
    ids: list[int] = []
    async with Platform(addresses.find()) as platform:
        while True:
            done = await platform["validation"].post(
                f"{_path(given.stream)}/release", orjson.dumps(asked), Released
            )
            ids += done.ids
            if given.id or not done.released:
                break
    output.rows([{"id": each} for each in ids], ("id",), given.output)
    return 0


def _path(stream: str) -> str:
    return f"/v1/streams/{quote(stream, safe='')}/blocks"
