"""`gyral rollout rollback --emergency`: straight to the gateways, whatever else is down."""

import argparse
import asyncio
import uuid
from collections.abc import Sequence
from urllib.parse import quote

import orjson

from gyral.client import addresses
from gyral.client.answers import Pin
from gyral.client.calls import Api, Row
from gyral.client.commands import output
from gyral.client.errors import ClientError
from gyral.client.wire import Pool

_COLUMNS = ("gateway", "version", "epoch", "outcome")
_PATIENCE_S = 5.0
"""How long a gateway may be away: the others are not to wait for it."""
_TIMEOUT_S = 5.0


async def rollback(given: argparse.Namespace) -> int:
    """Pin the previous champion at every gateway; 1 where one did not do it.

    All of them are asked first what they would do: they must agree, for a pin that lets each
    answer by another version would be worse than none.
    """
    apis = [_api(url) for url in addresses.gateways()]
    path = f"/v1/models/{quote(given.model, safe='')}/pin"
    try:
        would = await asyncio.gather(*(_seen(api, path) for api in apis))
        version = _agreed(
            [each for each in would if isinstance(each, Pin)], would, given.version
        )
        body = orjson.dumps(
            {"pin_id": str(uuid.uuid4()), "version": version, "reason": given.reason}
        )
        done = await asyncio.gather(*(_pinned(api, path, body) for api in apis))
    finally:
        for api in apis:
            await api.http.aclose()
    output.rows(
        [_row(api, each) for api, each in zip(apis, done, strict=True)], _COLUMNS, given.output
    )
    return 0 if all(isinstance(each, Pin) for each in done) else 1


def _api(url: str) -> Api:
    key = addresses.find().key
    http = Pool(url, {"authorization": f"Bearer {key}"}, size=1, timeout_s=_TIMEOUT_S)
    return Api("gateway", http, _PATIENCE_S)


async def _seen(api: Api, path: str) -> Pin | ClientError:
    try:
        return await api.get(path, Pin)
    except ClientError as error:
        return error


async def _pinned(api: Api, path: str, body: bytes) -> Pin | ClientError:
    try:
        return await api.post(path, body, Pin)
    except ClientError as error:
        return error


def _agreed(found: Sequence[Pin], all_: Sequence[Pin | ClientError], taken: int | None) -> int:
    """Return the one version that every gateway within reach would answer by."""
    if not found:
        raise next(each for each in all_ if isinstance(each, ClientError))
    versions = sorted({pin.version for pin in found})
    newest = {pin.instead_of for pin in found if pin.instead_of is not None}
    if len(versions) > 1 or (taken is not None and newest - {taken}):
        wanted = "the same version" if taken is None else f"version {taken}"
        raise ClientError(
            f"rollout rollback: expected every gateway to take back {wanted}; found them "
            f"about to answer by {versions} instead of {sorted(newest)}"
        )
    return versions[0]


def _row(api: Api, done: Pin | ClientError) -> Row:
    if isinstance(done, Pin):
        return {
            "gateway": api.http.url,
            "version": done.version,
            "epoch": done.epoch,
            "outcome": "pinned",
        }
    return {"gateway": api.http.url, "outcome": f"not pinned: {done}"}
