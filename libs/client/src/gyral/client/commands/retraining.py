"""`gyral retrain`: a training that an operator asks for."""

import argparse
from urllib.parse import quote

import msgspec
import orjson

from gyral.client import addresses
from gyral.client.calls import Platform
from gyral.client.commands import output


class Requested(msgspec.Struct, frozen=True):
    """A request for training."""

    request_id: str


async def retrain(given: argparse.Namespace) -> int:
    """Ask for a training; `gyral trace` tells what becomes of it.

    It is asked for once: were it asked again after a lost answer, there would be two requests.
    """
    path = f"/v1/models/{quote(given.model, safe='')}/retrain"
    body = orjson.dumps({"reason": given.reason})
    async with Platform(addresses.find(), patience_s=0) as platform:
        found = await platform["registry"].post(path, body, Requested)
    output.rows([msgspec.structs.asdict(found)], ("request_id",), given.output)
    return 0
