"""`gyral apply`."""

import argparse

from gyral.client import addresses, documents
from gyral.client.answers import Applied
from gyral.client.calls import Platform
from gyral.client.commands import output


async def apply(given: argparse.Namespace) -> int:
    """Declare every document of a file or folder, streams first."""
    specs = documents.read(given.file)
    rows = []
    async with Platform(addresses.find()) as platform:
        for spec in specs:
            body = documents.json_of(spec)
            done = await platform["registry"].post("/v1/specs", body, Applied)
            rows.append(
                {
                    "kind": done.kind,
                    "name": done.name,
                    "generation": done.generation,
                    "changed": done.changed,
                }
            )
    output.rows(rows, ("kind", "name", "generation", "changed"), given.output)
    return 0
