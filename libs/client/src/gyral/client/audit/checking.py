"""Every invariant at once: stores, log, lake and the sender's journal against each other."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import asyncpg
import numpy as np

from gyral.client.audit import decisions, lake, replays
from gyral.client.audit.failing import told_in_a_line
from gyral.client.audit.findings import Finding
from gyral.client.audit.lake import Keyed, Place, Sender
from gyral.client.audit.log import Log, Reach, connect
from gyral.client.audit.looking import lasting
from gyral.client.errors import ClientError
from gyral.client.lake import Lake, lake_of
from gyral.client.replay import journal as journals
from gyral.contracts.data import RecordSubmitted
from gyral.contracts.inference import PredictionLogged
from gyral.contracts.specs.document import duration_seconds
from gyral.contracts.specs.stream import StreamSpec
from gyral.modelling.columns import Ints

_SUNK = (RecordSubmitted.topic.name, PredictionLogged.topic.name)
_LOOK_S = 0.1
PLACES: Mapping[str, str] = {
    "quarantine": """
        SELECT topic, partition, array_agg("offset" * $1 + row)
          FROM validation.quarantine GROUP BY 1, 2
    """,
    "duplicate": """
        SELECT topic, partition, array_agg("offset" * $1 + row)
          FROM validation.duplicate GROUP BY 1, 2
    """,
    "marker": """
        SELECT topic, partition, array_agg("offset" * $1) FROM validation.marker GROUP BY 1, 2
    """,
    "erased": """
        SELECT topic, partition, array_agg("offset" * $1 + row)
          FROM validation.erased_row GROUP BY 1, 2
    """,
}
_DECLARED = "SELECT kind, name, document FROM registry.spec ORDER BY kind, name"
_QUARANTINED = "SELECT stream, record_key FROM validation.quarantine"
ERASED = """
    SELECT stream, sum(rows)::bigint
      FROM (SELECT stream, rows FROM validation.erasure
             UNION ALL
            SELECT stream, 1 FROM validation.quarantine WHERE erased_at IS NOT NULL) AS gone
     GROUP BY stream
"""
_RETIRED = "SELECT stream FROM validation.stream_progress WHERE rows > table_rows"
PINNED = """
    SELECT DISTINCT ON (stream) stream, version, rows, content
      FROM validation.dataset
     WHERE content IS NOT NULL
     ORDER BY stream, id DESC
"""
_SUNK_UNTIL = """
    SELECT topic, partition, max(next_offset)
      FROM validation.sink_offset
     WHERE topic = ANY($1)
     GROUP BY topic, partition
"""


@dataclass(frozen=True, slots=True)
class Sides:
    """Where there is something to compare."""

    database: asyncpg.Connection
    log: Log
    lake: Lake
    sender: Sender | None


async def check(
    settings: Mapping[str, str], journal: Path | None, *, patience_s: float = 60.0
) -> Sequence[Finding]:
    """Return a finding for each invariant.

    Args:
        settings: the instance's variables.
        journal: a sender's journal, for what only a sender knows.
        patience_s: how long validation may take to sink what the log already holds.

    Raises:
        ClientError: a part of the platform cannot be read.
    """
    sender = await asyncio.to_thread(_sender, journal)
    with told_in_a_line():
        return await _every(settings, sender, patience_s)


async def _every(
    settings: Mapping[str, str], sender: Sender | None, patience_s: float
) -> Sequence[Finding]:
    async with database(settings) as connection, connect(settings["KAFKA_BROKERS"]) as log:
        sides = Sides(connection, log, lake_of(settings), sender)
        reach = await _sunk(sides, patience_s)
        found = [finding async for finding in _kept(sides, reach)]
        found += [finding async for finding in decisions.check(connection)]
        found.append(await decisions.outcomes(connection, log.told))
        found.append(await _dead_letters(sides))
        found.append(Finding.of("replays_are_audited", await replays.unaudited(connection)))
    return found


@asynccontextmanager
async def database(settings: Mapping[str, str]) -> AsyncIterator[asyncpg.Connection]:
    """Connect as the auditor, who may read everything and change nothing.

    Raises:
        ClientError: there is no instance, or its Postgres does not answer.
    """
    secret = settings.get("AUDITOR_DATABASE_SECRET")
    if not secret:
        raise ClientError(
            "GYRAL_HOME: expected the folder of an instance, whose stores are looked into; "
            "found none: set it, or start one with `gyral up`"
        )
    address = settings["POSTGRES_ADDRESS"]
    try:
        connection = await asyncpg.connect(f"postgresql://auditor:{secret}@{address}/gyral")
    except (OSError, asyncpg.PostgresError) as error:
        raise ClientError(
            f"Postgres at {address}: no answer ({type(error).__name__}): see `gyral status`"
        ) from error
    try:
        yield connection
    finally:
        await connection.close()


async def _kept(sides: Sides, reach: Mapping[Place, Reach]) -> AsyncIterator[Finding]:
    declared = await sides.database.fetch(_DECLARED)
    erased = {row[0]: int(row[1]) for row in await sides.database.fetch(ERASED)}
    streams = {
        row["name"]: _keyed(
            StreamSpec.model_validate_json(row["document"]), erased.get(row["name"], 0)
        )
        for row in declared
        if row["kind"] == "Stream"
    }
    models = [row["name"] for row in declared if row["kind"] == "Model"]
    quarantined: dict[str, set[str]] = {}
    for stream, key in await sides.database.fetch(_QUARANTINED):
        quarantined.setdefault(stream, set()).add(key)
    aside = {kind: await _places(sides.database, kind) for kind in PLACES}
    retired = frozenset(row[0] for row in await sides.database.fetch(_RETIRED))
    tables_of = replace(sides.lake, retired=retired)
    pins = [lake.Pin(*row) for row in await sides.database.fetch(PINNED)]
    tables = [*streams, *(f"predictions-{model}" for model in models)]
    for name, work in (
        (
            "records_answered_are_kept_once",
            lambda: list(lake.records(tables_of, streams, quarantined, sides.sender)),
        ),
        (
            "predictions_answered_are_logged_once",
            lambda: list(lake.predictions(tables_of, models, sides.sender)),
        ),
        (
            "every_offset_accounted",
            lambda: list(lake.offsets(tables_of, tables, aside, reach)),
        ),
        (
            "datasets_hold_what_they_pin",
            lambda: list(lake.pinned(tables_of, pins)),
        ),
    ):
        yield Finding.of(name, await asyncio.to_thread(work))


async def _dead_letters(sides: Sides) -> Finding:
    async def look() -> Mapping[str, str]:
        settled = await replays.settled(sides.database)
        return {line: line for line in await sides.log.unexplained(settled)}

    return Finding.of("dead_letters_explained", await lasting(look))


def _keyed(stream: StreamSpec, erased: int) -> Keyed:
    body = stream.spec
    return Keyed(
        body.key,
        body.event_time,
        round(duration_seconds(body.dedupe) * 1e6),
        personal=body.key in body.personal,
        erased=erased,
    )


async def _places(connection: asyncpg.Connection, kind: str) -> Mapping[Place, Ints]:
    rows = await connection.fetch(PLACES[kind], lake.ROWS)
    return {(row[0], row[1]): np.array(row[2], dtype=np.int64) for row in rows}


async def _sunk(sides: Sides, patience_s: float) -> Mapping[Place, Reach]:
    """Return how far the log goes, once validation has sunk it if that comes to be."""
    wanted = await sides.log.reach(_SUNK)
    deadline = monotonic() + patience_s
    while True:
        rows = await sides.database.fetch(_SUNK_UNTIL, list(_SUNK))
        done = {(row[0], row[1]): row[2] for row in rows}
        if all(done.get(place, 0) >= reach.end for place, reach in wanted.items()):
            return wanted
        if monotonic() > deadline:
            return wanted
        await asyncio.sleep(_LOOK_S)


def _sender(journal: Path | None) -> Sender | None:
    if journal is None:
        return None
    try:
        return lake.sender_of(journals.read(journal))
    except (OSError, ValueError) as error:
        raise ClientError(
            f"{journal}: expected a journal of `gyral replay`, sent.jsonl: {error}"
        ) from error
