"""`gyral quarantine`: rows that were refused, and how they are judged again after a fix."""

import argparse
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import msgspec
import orjson
from msgspec import Struct

from gyral.client import addresses
from gyral.client.calls import Api, Params, Platform
from gyral.client.commands import output
from gyral.client.commands.letters import Header, tell_record
from gyral.client.commands.raw import plain
from gyral.client.errors import ClientError

_PAGE = 1000
_PATH = "/v1/quarantine"
Filters = dict[str, str]


_COLUMNS = (
    "id",
    "stream",
    "record_key",
    "schema_version",
    "position",
    "state",
    "reason",
    "detail",
)


class Refused(Struct, frozen=True):
    """A row in quarantine, without its bytes."""

    id: int
    topic: str
    partition: int
    offset: int
    row: int
    stream: str
    record_key: str
    schema_version: int | None
    reason: str
    detail: str
    size_bytes: int
    quarantined_at: datetime
    replayed_at: datetime | None = None
    replay_id: str | None = None
    origin: int | None = None
    protection: str | None = None
    """How the bytes of a stream with personal fields are kept: encrypted, whatever it says."""
    erased_at: datetime | None = None


class Whole(Refused, frozen=True, kw_only=True):
    """A row in quarantine with all that came with it."""

    key_base64: str | None
    value_base64: str
    headers: list[Header]


class Replayed(Struct, frozen=True):
    """Which rows one order put back."""

    replay_id: str
    replayed: int
    before: datetime


async def ls(given: argparse.Namespace) -> int:
    """List refused rows, oldest first."""
    rows: list[dict[str, object]] = []
    async with Platform(addresses.find()) as platform:
        async for row in _rows(platform["validation"], given, given.state):
            if len(rows) == given.limit:
                break
            place = f"{row.topic}/{row.partition}/{row.offset}/{row.row}"
            told = {"position": place, "state": _state(row)}
            rows.append({**msgspec.to_builtins(row), **told})
    output.rows(rows, _COLUMNS, given.output)
    return 0


async def show(given: argparse.Namespace) -> int:
    """Show one refused row: why it is here, its headers and its bytes."""
    async with Platform(addresses.find()) as platform:
        row = await platform["validation"].find(f"{_PATH}/{given.id}", Whole)
    if row is None:
        raise ClientError(
            f"quarantine show: expected the id of a refused row; found none with id {given.id}"
        )
    told = msgspec.to_builtins(row)
    if given.output == "json":
        output.document(told)
        return 0
    for name, value in told.items():
        if name not in ("headers", "key_base64", "value_base64"):
            output.say(f"{name + ':':<16}{plain(str(value))}")
    headers = [(each.name, each.value_base64) for each in row.headers]
    tell_record(row.key_base64, headers, row.value_base64, most=given.bytes)
    return 0


async def export(given: argparse.Namespace) -> int:
    """Write refused rows with their bytes into a file."""
    from gyral.client.commands import exporting  # noqa: PLC0415 - pyarrow, for this alone

    async with Platform(addresses.find()) as platform:
        pages = _exported(platform["validation"], _params(given, given.state))
        count = await exporting.write(given.file, pages)
    output.rows([{"file": str(given.file), "rows": count}], ("file", "rows"), given.output)
    return 0


async def replay(given: argparse.Namespace) -> int:
    """Have held rows judged again; with --dry-run, count them."""
    if not (given.stream or given.reason or given.since or given.id):
        raise ClientError(
            "quarantine replay: expected --stream, --reason, --since or --id; found none"
        )
    async with Platform(addresses.find()) as platform:
        if given.dry_run:
            return await _count(platform["validation"], given)
        if not given.because:
            raise ClientError(
                "quarantine replay: expected --because and why; it goes into the audit"
            )
        done = [each async for each in _replayed(platform["validation"], given)]
    row = {
        "replayed": sum(each.replayed for each in done),
        "replay_ids": [each.replay_id for each in done],
    }
    output.rows([row], ("replayed", "replay_ids"), given.output)
    return 0


async def _replayed(api: Api, given: argparse.Namespace) -> AsyncIterator[Replayed]:
    """Yield what each order put back, until nothing is left of what was chosen.

    What is refused again meanwhile stays: its cause is not mended.
    """
    before: datetime | None = None
    chosen = {**_params(given, "all"), "because": given.because}
    for ids in _pages(given.id):
        while True:
            body = orjson.dumps({**chosen, "ids": ids, "before": before})
            key = str(uuid.uuid4())
            answer = await api.post(f"{_PATH}/replay", body, Replayed, idempotency_key=key)
            before = before or answer.before
            if not answer.replayed:
                break
            yield answer


async def _count(api: Api, given: argparse.Namespace) -> int:
    rows: Counter[tuple[str, str]] = Counter()
    size: Counter[tuple[str, str]] = Counter()
    async for row in _rows(api, given, "held"):
        kind = (row.stream, row.reason)
        rows[kind] += 1
        size[kind] += row.size_bytes
    columns = ("stream", "reason", "rows", "bytes")
    counted = [
        dict(zip(columns, (*kind, count, size[kind]), strict=True))
        for kind, count in sorted(rows.items())
    ]
    output.rows(counted, columns, given.output)
    return 0


async def _rows(api: Api, given: argparse.Namespace, state: str) -> AsyncIterator[Refused]:
    params = _params(given, state)
    if given.id:
        for id_ in given.id:
            row = await api.find(f"{_PATH}/{id_}", Refused)
            if row is not None and _fits(row, params):
                yield row
        return
    after = 0
    while True:
        asked: Params = {**params, "after": after, "limit": _PAGE}
        page = await api.get(_PATH, list[Refused], asked)
        if not page:
            return
        for row in page:
            yield row
        after = page[-1].id


async def _exported(api: Api, params: Filters) -> AsyncIterator[bytes]:
    after = 0
    while True:
        asked: Params = {**params, "after": after, "limit": _PAGE}
        page = await api.read(f"{_PATH}/export", asked)
        if not page:
            return
        yield page
        after = msgspec.json.decode(page.splitlines()[-1], type=Refused).id


def _params(given: argparse.Namespace, state: str) -> Filters:
    asked = {"stream": given.stream, "reason": given.reason, "since": _since(given.since)}
    if state != "all":
        asked["state"] = state
    return {name: value for name, value in asked.items() if value}


def _fits(row: Refused, params: Filters) -> bool:
    since = params.get("since")
    return (
        row.stream == params.get("stream", row.stream)
        and row.reason == params.get("reason", row.reason)
        and _state(row) == params.get("state", _state(row))
        and (since is None or row.quarantined_at >= datetime.fromisoformat(since))
    )


def _state(row: Refused) -> str:
    return "held" if row.replayed_at is None else "replayed"


def _since(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ClientError(
            f"--since: expected a time such as 2026-01-31T06:00:00Z; found {text[:60]!r}"
        ) from error
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat()


def _pages(ids: Sequence[int] | None) -> Sequence[Sequence[int] | None]:
    """Return ids, as many as one order may name; or None once, for any."""
    if not ids:
        return [None]
    return [ids[start : start + _PAGE] for start in range(0, len(ids), _PAGE)]
