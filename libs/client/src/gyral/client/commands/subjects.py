"""`gyral subject`: whoever a row is about is erased, and what was learned from it is listed."""

import argparse
import asyncio
import sys
import uuid
from datetime import datetime
from pathlib import Path
from time import monotonic
from urllib.parse import quote

import msgspec
import orjson

from gyral.client import addresses
from gyral.client.calls import Api, Platform
from gyral.client.commands import output
from gyral.client.errors import ClientError

_LOOK_S = 0.5
_COLUMNS = ("id", "stream", "subject", "asked_at", "done_at", "rows", "parked", "because")
_SHOWN = (*_COLUMNS[:-1], "versions", "models")


class Taken(msgspec.Struct, frozen=True):
    """An order that will be carried out."""

    id: str


class Erasure(msgspec.Struct, frozen=True):
    """An order and what it came to."""

    id: str
    stream: str
    subject: str
    actor: str
    because: str
    asked_at: datetime
    done_at: datetime | None
    rows: int
    parked: int
    versions: list[int]


class _Pin(msgspec.Struct, frozen=True):
    stream: str
    version: int


class _Version(msgspec.Struct, frozen=True):
    version: int
    datasets: list[_Pin]


async def erase(given: argparse.Namespace) -> int:
    """Have a subject erased, and wait for the end of it; 1 when it is not over by then."""
    subject = _subject(given.file)
    body = orjson.dumps({"subject": subject, "because": given.because})
    path = f"/v1/streams/{quote(given.stream, safe='')}/erasures"
    async with Platform(addresses.find()) as platform:
        validation = platform["validation"]
        taken = await validation.post(path, body, Taken, idempotency_key=str(uuid.uuid4()))
        told = await _ended(validation, taken.id, given.wait_s)
        await _tell(platform, told, given.output)
    if told.done_at is None:
        sys.stderr.write(f"it goes on: ask with `gyral subject show {told.id}`\n")
    return int(told.done_at is None)


async def show(given: argparse.Namespace) -> int:
    """Say what an erasure took, from which versions, and which models learned from those."""
    async with Platform(addresses.find()) as platform:
        path = f"/v1/erasures/{quote(given.id, safe='')}"
        found = await platform["validation"].find(path, Erasure)
        if found is None:
            raise ClientError(f"subject show: expected an erasure's id; found {given.id!r}")
        await _tell(platform, found, given.output)
    return 0


async def ls(given: argparse.Namespace) -> int:
    """List erasures, oldest first."""
    only = {"stream": given.stream} if given.stream else {}
    async with Platform(addresses.find()) as platform:
        found = await platform["validation"].listed("/v1/erasures", "seq", given.limit, only)
    output.rows(found, _COLUMNS, given.output)
    return 0


def _subject(file: Path | None) -> str:
    """Return whose rows are to go: never from the command line, which others can see."""
    try:
        raw = sys.stdin.buffer.read() if file is None else file.read_bytes()
        text = raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(
            f"subject erase: expected the subject as UTF-8 text; {type(error).__name__}"
        ) from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ClientError(
            "subject erase: expected the subject on standard input or in --file; found nothing"
        )
    return text


async def _ended(validation: Api, id_: str, wait_s: float) -> Erasure:
    deadline = monotonic() + wait_s
    while True:
        found = await validation.get(f"/v1/erasures/{id_}", Erasure)
        if found.done_at is not None or monotonic() > deadline:
            return found
        await asyncio.sleep(_LOOK_S)


async def _tell(platform: Platform, told: Erasure, form: str) -> None:
    models = await _taught(platform["registry"], told.stream, frozenset(told.versions))
    row = {**msgspec.to_builtins(told), "models": models}
    output.rows([row], _SHOWN, form)


async def _taught(registry: Api, stream: str, versions: frozenset[int]) -> list[str]:
    """Return the model versions, `name@number`, that were trained on one of these."""
    if not versions:
        return []
    found = []
    for model in await registry.listed("/v1/models", "name"):
        name = str(model["name"])
        path = f"/v1/models/{quote(name, safe='')}/versions"
        for row in await registry.listed(path, "version"):
            taught = msgspec.convert(row, _Version)
            pins = [pin.version for pin in taught.datasets if pin.stream == stream]
            if not versions.isdisjoint(pins):
                found.append(f"{name}@{taught.version}")
    return sorted(found)
