"""`gyral apply`."""

import argparse
from collections.abc import Sequence

from gyral.client import addresses, declaring, documents
from gyral.client.answers import Applied
from gyral.client.calls import Platform
from gyral.client.commands import output
from gyral.client.errors import ClientError


async def apply(given: argparse.Namespace) -> int:
    """Declare every document of a file or folder, streams first; return when all know."""
    specs = documents.read(given.file)
    async with Platform(addresses.find()) as platform:
        applied = await declaring.declare(platform, specs)
        if given.wait:
            await _wait(platform, specs, applied)
    rows = [
        {
            "kind": done.kind,
            "name": done.name,
            "generation": done.generation,
            "changed": done.changed,
        }
        for done in applied
    ]
    output.rows(rows, ("kind", "name", "generation", "changed"), given.output)
    return 0


async def _wait(
    platform: Platform, specs: list[documents.Spec], applied: Sequence[Applied]
) -> None:
    try:
        await declaring.known(platform, specs, applied, lambda _: None)
    except ClientError as error:
        raise ClientError(
            f"declared, but not known everywhere yet (--no-wait returns before): {error}"
        ) from error
