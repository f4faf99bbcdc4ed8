"""`gyral dlq`: events that services could not handle, and how they are handled after all."""

import argparse
import base64
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime

import msgspec
import orjson
from msgspec import Struct

from gyral.client import addresses
from gyral.client.calls import Api, Params, Platform
from gyral.client.commands import output
from gyral.client.commands.raw import plain, shown
from gyral.client.errors import ClientError

SERVICES = ("registry", "trainer", "deployer")
"""Those that handle control events, and so may park one."""
_PAGE = 500
_PATH = "/v1/dead-letters"


class Letter(Struct, frozen=True):
    """A dead letter as a service lists it."""

    seq: int
    id: str
    topic: str
    partition: int
    offset: int
    event_id: str
    reason: str
    error: str
    attempts: int
    size_bytes: int
    parked_at: datetime
    state: str
    settled_at: datetime | None = None
    replay_id: str | None = None


class Header(Struct, frozen=True):
    """One header of its record."""

    name: str
    value_base64: str | None


class Whole(Letter, frozen=True, kw_only=True):
    """A dead letter with its bytes."""

    key_base64: str | None
    headers: list[Header]
    value_base64: str | None


class Replayed(Struct, frozen=True):
    """What an order came to in one service."""

    replay_id: str
    replayed: list[str]
    handled: list[str]
    before: datetime


async def ls(given: argparse.Namespace) -> int:
    """List dead letters, service by service, oldest first."""
    async with Platform(addresses.find()) as platform:
        rows = [
            {**msgspec.to_builtins(letter), "when": letter.parked_at, "consumer": service}
            async for service, letter in _letters(platform, given, given.state)
        ]
    columns = ("topic", "reason", "when", "consumer", "id", "size_bytes", "state", "error")
    output.rows(rows, columns, given.output)
    return 0


async def show(given: argparse.Namespace) -> int:
    """Show one letter: why it is here, its headers and its bytes."""
    [id_] = _ids([given.id])
    async with Platform(addresses.find()) as platform:
        for service in SERVICES:
            letter = await platform[service].find(f"{_PATH}/{id_}", Whole)
            if letter is not None:
                _tell(service, letter, given)
                return 0
    raise ClientError(f"dlq show: expected the id of a dead letter; found none with id {id_}")


async def replay(given: argparse.Namespace) -> int:
    """Have parked letters handled again; with --dry-run, count them."""
    if not (given.topic or given.reason or given.id):
        raise ClientError("dlq replay: expected --topic, --reason or --id; found none of them")
    async with Platform(addresses.find()) as platform:
        if given.dry_run:
            return await _count(platform, given)
        if not given.because:
            raise ClientError("dlq replay: expected --because and why; it goes into the audit")
        rows = [await _replay(platform[service], given) for service in SERVICES]
    output.rows(rows, ("consumer", "replayed", "handled", "replay_ids"), given.output)
    return 0


async def _replay(api: Api, given: argparse.Namespace) -> dict[str, object]:
    """Put back what a service has parked by now, page by page, until nothing is left of it."""
    done: list[Replayed] = []
    before: datetime | None = None
    for ids in _pages(_ids(given.id)):
        while True:
            asked = {
                "topic": given.topic,
                "reason": given.reason,
                "ids": ids,
                "before": before,
                "because": given.because,
            }
            answer = await api.post(
                f"{_PATH}/replay",
                orjson.dumps(asked),
                Replayed,
                idempotency_key=str(uuid.uuid4()),
            )
            before = before or answer.before
            if not (answer.replayed or answer.handled):
                break
            done.append(answer)
    return {
        "consumer": api.service,
        "replayed": sum(len(each.replayed) for each in done),
        "handled": sum(len(each.handled) for each in done),
        "replay_ids": [each.replay_id for each in done],
    }


async def _count(platform: Platform, given: argparse.Namespace) -> int:
    letters: Counter[tuple[str, str, str]] = Counter()
    size: Counter[tuple[str, str, str]] = Counter()
    async for service, letter in _letters(platform, given, "parked"):
        kind = (service, letter.topic, letter.reason)
        letters[kind] += 1
        size[kind] += letter.size_bytes
    columns = ("consumer", "topic", "reason", "letters", "bytes")
    rows = [
        dict(zip(columns, (*kind, count, size[kind]), strict=True))
        for kind, count in sorted(letters.items())
    ]
    output.rows(rows, columns, given.output)
    return 0


async def _letters(
    platform: Platform, given: argparse.Namespace, state: str
) -> AsyncIterator[tuple[str, Letter]]:
    """Yield (service, letter) of what was chosen."""
    ids = _ids(given.id)
    filters = {"topic": given.topic, "reason": given.reason}
    filters["state"] = None if state == "all" else state
    for service in SERVICES:
        for id_ in ids:
            found = await platform[service].find(f"{_PATH}/{id_}", Letter)
            if found is not None and _fits(found, filters):
                yield service, found
        if not ids:
            async for letter in _pages_of(platform[service], filters):
                yield service, letter


async def _pages_of(api: Api, filters: dict[str, str | None]) -> AsyncIterator[Letter]:
    params = {name: value for name, value in filters.items() if value}
    after = 0
    while True:
        asked: Params = {**params, "after": after, "limit": _PAGE}
        page = await api.get(_PATH, list[Letter], asked)
        if not page:
            return
        for letter in page:
            yield letter
        after = page[-1].seq


def _fits(letter: Letter, filters: dict[str, str | None]) -> bool:
    return all(
        wanted is None or getattr(letter, name) == wanted for name, wanted in filters.items()
    )


def _ids(given: Sequence[str] | None) -> list[str]:
    found = []
    for text in given or ():
        try:
            found.append(str(uuid.UUID(text)))
        except ValueError as error:
            raise ClientError(
                f"id: expected one that `gyral dlq ls` shows; found {text[:60]!r}"
            ) from error
    return found


def _pages(ids: Sequence[str]) -> Iterable[Sequence[str] | None]:
    """Yield ids, as many as one order may name; or None once, for any."""
    if not ids:
        return [None]
    return [ids[start : start + _PAGE] for start in range(0, len(ids), _PAGE)]


def _tell(service: str, letter: Whole, given: argparse.Namespace) -> None:
    told = {**msgspec.to_builtins(letter), "consumer": service}
    if given.output == "json":
        output.document(told)
        return
    for name, value in told.items():
        if name not in ("headers", "key_base64", "value_base64"):
            output.say(f"{name + ':':<14}{plain(str(value))}")
    tell_record(
        letter.key_base64,
        [(each.name, each.value_base64) for each in letter.headers],
        letter.value_base64,
        most=given.bytes,
    )


def tell_record(
    key: str | None,
    headers: Iterable[tuple[str, str | None]],
    value: str | None,
    *,
    most: int,
) -> None:
    """Print a record's key, headers and value, which come in base64."""
    for title, data in (
        ("key:", key),
        *((f"header {plain(name)}:", held) for name, held in headers),
        ("value:", value),
    ):
        output.say(title)
        lines = ["null"] if data is None else shown(base64.b64decode(data), most=most)
        for line in lines:
            output.say(f"  {line}")
