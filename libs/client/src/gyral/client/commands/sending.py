"""`gyral send`: what upstream systems do, from files, from stdin and from Postgres."""

import argparse
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import orjson

from gyral.client import addresses
from gyral.client.answers import Marked
from gyral.client.calls import LONG_WORK_S, Platform
from gyral.client.commands import output
from gyral.client.errors import ClientError
from gyral.client.rows.files import File, Format
from gyral.client.sending import dsn
from gyral.client.sending.declared import Declared
from gyral.client.sending.delivering import Delivery
from gyral.client.sending.files import Files, Sent
from gyral.client.sending.memory import Memory
from gyral.client.sending.progress import Show, bar
from gyral.client.sending.tables import Tables, Wanted
from gyral.contracts.specs.document import duration_seconds

_COLUMNS = ("stream", "source", "accepted", "total", "state", "ignored")
_OF_TABLES = ("table", "since", "key", "overlap", "dsn_file")
_MOST_ROWS = 10_000
OVERLAP = "5m"
"""How long after its changed-at time a row may become visible."""


async def send(given: argparse.Namespace) -> int:
    """Send rows to a stream, and a marker behind them when one is given."""
    _check(given)
    where = addresses.find()
    with (
        bar() as show,
        Memory(addresses.home(), where.url("ingestion"), given.stream) as memory,
    ):
        async with Platform(where, patience_s=LONG_WORK_S) as platform:
            shown = [
                _row(given.stream, sent)
                async for sent in _sources(given, platform, memory, show)
            ]
            await _mark(given, platform)
    output.rows(shown, _COLUMNS, given.output)
    return 0


async def _sources(
    given: argparse.Namespace, platform: Platform, memory: Memory, show: Show
) -> AsyncIterator[Sent]:
    delivery = Delivery(platform, given.stream)
    if given.from_postgres:
        address = dsn.find(given.dsn_file)
        declared = await Declared.ask(platform, given.stream)
        wanted = Wanted(
            given.table,
            given.since,
            given.key,
            _overlap(given.overlap),
            given.batch,
            given.restart,
        )
        yield await Tables(delivery, declared, memory, show).send(wanted, address)
        return
    tables = any(File(path).format is not Format.NDJSON for path in given.files)
    typing = await Declared.ask(platform, given.stream) if tables else None
    files = Files(delivery, typing, memory, show, given.batch, given.restart)
    for path in given.files:
        yield await files.send(path)
    if not given.files:
        yield await files.send_lines(sys.stdin.buffer)


async def _mark(given: argparse.Namespace, platform: Platform) -> None:
    if given.watermark:
        path = f"/v1/streams/{quote(given.stream, safe='')}/watermark"
        body = orjson.dumps({"event_time": given.watermark})
        await platform["ingestion"].post(path, body, Marked)


def _check(given: argparse.Namespace) -> None:
    named = [name for name in _OF_TABLES if getattr(given, name) is not None]
    if not given.from_postgres and named:
        option = named[0].replace("_", "-")
        raise ClientError(f"--{option}: expected --from-postgres beside it; found none")
    if given.from_postgres and given.files:
        raise ClientError(
            f"{given.files[0]}: expected no file beside --from-postgres; found one: "
            "send it with a command of its own"
        )
    for name in ("table", "since") if given.from_postgres else ():
        if getattr(given, name) is None:
            raise ClientError(f"--{name}: expected it beside --from-postgres; found none")
    if not 1 <= given.batch <= _MOST_ROWS:
        raise ClientError(f"--batch: expected 1 to {_MOST_ROWS} rows; found {given.batch}")
    for path in given.files:
        _ = File(Path(path)).format


def _overlap(text: str | None) -> float:
    try:
        return duration_seconds(text or OVERLAP)
    except ValueError as error:
        raise ClientError(f"--overlap: {error}") from error


def _row(stream: str, sent: Sent) -> dict[str, object]:
    return {
        "stream": stream,
        "source": sent.source,
        "accepted": sent.accepted,
        "total": sent.total,
        "state": sent.state,
        "ignored": list(sent.ignored),
    }
