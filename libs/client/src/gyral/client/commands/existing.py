"""Tells an empty list from a name that nobody declared."""

from typing import Literal
from urllib.parse import quote

from gyral.client.calls import Platform, Row


async def must_exist(
    platform: Platform, kind: Literal["models", "streams"], name: str | None
) -> None:
    """Return when the registry knows the name, or none was given.

    Raises:
        ServiceError: it does not; as `gyral get` of that name says.
    """
    if name:
        await platform["registry"].get(f"/v1/{kind}/{quote(name, safe='')}", Row)
