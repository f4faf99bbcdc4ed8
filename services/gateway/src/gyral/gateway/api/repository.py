"""The repository extension: what is served, and why nothing is loaded this way."""

import asyncio
from typing import NoReturn

import msgspec

from gyral.contracts.deployment import RouteChanged, Share
from gyral.gateway.api.front import Front
from gyral.gateway.api.refusals import RefusedError
from gyral.gateway.api.tensors import BadRequestError
from gyral.gateway.engine.probing import missing_at

PREFIX = "/v2/repository/"
INDEX = f"{PREFIX}index"
_PROBE_S = 2.0


class IndexRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What may be asked of the index."""

    ready: bool = False


class Listed(msgspec.Struct, frozen=True):
    """One version that a route names."""

    name: str
    version: str
    state: str
    reason: str


_decode = msgspec.json.Decoder(IndexRequest).decode


def only_ready(body: bytes) -> bool:
    """Return whether only versions that answer are asked for; nothing asks for all.

    Raises:
        BadRequestError: the body is no `{"ready": bool}`.
    """
    if not body:
        return False
    try:
        return _decode(body).ready
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(str(error)) from None
    except RecursionError:
        raise BadRequestError("expected {ready}; found JSON nested too deeply") from None


async def index(front: Front, *, ready: bool) -> list[Listed]:
    """Return every version of every route, and whether its runtime holds it now."""
    named = [(route, share) for route in front.table.routes() for share in route.shares]
    listed = await asyncio.gather(*(_listed(front, route, share) for route, share in named))
    listed.sort(key=lambda each: (each.name, int(each.version)))
    return [each for each in listed if each.state == "READY" or not ready]


def refuse_change(model: str) -> NoReturn:
    """Say what to do instead of loading or unloading.

    Raises:
        RefusedError: always. What answers is what the registry approved and the deployer
            rolled out; a version loaded past them would have passed no gate.
    """
    raise RefusedError(
        409,
        f"{model[:80]}: expected versions to be loaded and unloaded by their rollouts alone;"
        " found a request to do it. `gyral rollout` promotes what the registry approved, or"
        " takes it back",
    )


async def _listed(front: Front, route: RouteChanged, share: Share) -> Listed:
    why = await missing_at(front.answering.fleet.links(route), share, _PROBE_S)
    state = "READY" if why is None else "UNAVAILABLE"
    return Listed(route.model, str(share.version), state, why or "")
