"""Declares documents, and waits until every service that follows them knows."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from gyral.client import documents
from gyral.client.answers import Applied, Projections
from gyral.client.calls import Platform
from gyral.client.documents import Spec
from gyral.client.errors import ClientError
from gyral.contracts.data import StreamDeclared
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.versions import ModelDeclared

PROJECTING = ("ingestion", "validation", "trainer", "deployer", "gateway", "monitor")
PATIENCE_S = 180.0
Wanted = Mapping[tuple[str, str], int]
"""Topic and name to the generation a service must know."""
_LOOK_S = 0.05


async def declare(platform: Platform, specs: Sequence[Spec]) -> Sequence[Applied]:
    """Hand documents to the registry, in this order; return what each came to."""
    return [
        await platform["registry"].post("/v1/specs", documents.json_of(spec), Applied)
        for spec in specs
    ]


async def known(
    platform: Platform,
    specs: Sequence[Spec],
    applied: Sequence[Applied],
    say: Callable[[str], None],
) -> None:
    """Return once every service that follows a document's topic knows its generation.

    Raises:
        ClientError: a service stays away, or behind.
    """
    wanted = {
        (_topic(spec), done.name): done.generation
        for spec, done in zip(specs, applied, strict=True)
    }
    for service in PROJECTING:
        say(f"{service} to know what was declared")
        await _known_to(platform, service, wanted)


async def _known_to(platform: Platform, service: str, wanted: Wanted) -> None:
    clock = asyncio.get_running_loop().time
    deadline = clock() + PATIENCE_S
    while behind := await _behind(platform, service, wanted):
        if clock() > deadline:
            raise ClientError(
                f"waited {PATIENCE_S:.0f} s until {service} knows of {', '.join(behind)}: "
                "see `gyral status`"
            )
        await asyncio.sleep(_LOOK_S)


async def _behind(platform: Platform, service: str, wanted: Wanted) -> Sequence[str]:
    """Return what a service follows and does not know yet."""
    shown = await platform[service].get("/v1/projections", Projections)
    return [
        name
        for (topic, name), generation in wanted.items()
        if topic in shown and shown[topic].get(name, 0) < generation
    ]


def _topic(spec: Spec) -> str:
    event = ModelDeclared if isinstance(spec, ModelSpec) else StreamDeclared
    return event.topic.name
