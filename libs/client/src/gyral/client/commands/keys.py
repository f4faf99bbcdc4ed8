"""`gyral key`: who may call, for how long, and of which models."""

import argparse
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import msgspec
import orjson

from gyral.client import addresses
from gyral.client.calls import Platform
from gyral.client.commands import output
from gyral.client.errors import ClientError
from gyral.contracts.specs.document import duration_seconds

_COLUMNS = ("key_id", "key")


class Issued(msgspec.Struct, frozen=True):
    """A new key."""

    key_id: str
    key: str


async def issue(given: argparse.Namespace) -> int:
    """Issue a key and print it, the only time that anybody can.

    It is asked for once: were it asked again after a lost answer, there would be a key that
    nobody has.
    """
    body = orjson.dumps(
        {
            "name": given.name,
            "scopes": sorted(set(given.scopes)),
            "models": sorted(set(given.models)) if given.models else None,
            "expires_at": _moment(given.expires, datetime.now(UTC)),
        }
    )
    async with Platform(addresses.find(), patience_s=0) as platform:
        found = await platform["registry"].post("/v1/keys", body, Issued)
    output.rows([msgspec.structs.asdict(found)], _COLUMNS, given.output)
    return 0


async def revoke(given: argparse.Namespace) -> int:
    """Have a key let nobody in any more."""
    async with Platform(addresses.find()) as platform:
        await platform["registry"].delete(f"/v1/keys/{quote(given.key_id, safe='')}")
    output.say(f"key {given.key_id} opens nothing any more")
    return 0


def _moment(text: str | None, now: datetime) -> str | None:
    """Return when a key ends, in RFC 3339.

    Raises:
        ClientError: it is neither a time nor a duration.
    """
    if text is None:
        return None
    try:
        return (now + timedelta(seconds=duration_seconds(text))).isoformat()
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ClientError(
            "--expires: expected a time such as 2027-01-31T00:00:00Z, or one from now such as"
            f" 90d; found {text[:80]!r}"
        )
    return moment.isoformat()
