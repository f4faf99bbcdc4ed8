"""Ingestion and validation over a stream of people, and a search for whoever is in there."""

import re
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileSelector, FileType, PyFileSystem
from pydantic import SecretStr

from gyral.client.audit import checking, lake
from gyral.client.audit.log import connect
from gyral.client.lake import Lake
from gyral.contracts.data import StreamDeclared
from gyral.kit.personal import PersonalKeys
from gyral.testkit.backends import PERSONAL_SECRET, fresh_schema
from gyral.testkit.events import send
from gyral.testkit.processes import ServiceProcess
from gyral.testkit.waiting import until
from tests.services.validation.conftest import KEY, RECORDS, World, declared, read_all

KEYS = PersonalKeys(SecretStr(PERSONAL_SECRET))
FIELDS = {
    "trip": {"type": "string"},
    "at": {"type": "timestamp"},
    "who": {"type": "string", "personal": True},
    "mail": {"type": "string", "personal": True, "nullable": True},
    "fare": {"type": "number", "minimum": 0, "maximum": 500},
}
START = datetime(2026, 1, 1, tzinfo=UTC)
BEARER = {"authorization": f"Bearer {KEY}"}


def _somebody(name):
    """Return a person of one test alone: the log outlives tests."""
    return f"{name}-{uuid.uuid4().hex[:12]}@example.org"


def trip(number, who, *, fare=7.0, **values):
    at = (START + timedelta(minutes=number)).isoformat()
    return {"trip": f"t{number}", "at": at, "who": who, "fare": fare, **values}


@dataclass
class House:
    """Both services with schemas of their own, and the stream they share."""

    world: World
    folder: Path
    door: ServiceProcess
    schemas: list[str]
    stream: str = field(default_factory=lambda: f"trips-{uuid.uuid4().hex[:8]}")
    validation: ServiceProcess | None = None
    ada: str = field(default_factory=lambda: _somebody("ada"))
    bob: str = field(default_factory=lambda: _somebody("bob"))
    grace: str = field(default_factory=lambda: _somebody("grace"))

    def judge(self, **knobs):
        """Make validation's process; start it yourself."""
        env = {
            **self.world.backends.service_env(
                database=self.world.dsn, bucket=self.world.blobs.bucket
            ),
            "INSTANCE_ID": "validation-0",
            "VALIDATION_BATCH_WAIT_S": "0.1",
            **knobs,
        }
        self.validation = ServiceProcess(
            "gyral.validation", env, self.folder / "validation.log"
        )
        return self.validation

    def post(self, *rows, body=None, kind="application/x-ndjson", **headers):
        """Send rows through the door."""
        sent = b"\n".join(map(orjson.dumps, rows)) if body is None else body
        return httpx.post(
            f"{self.door.url}/v1/streams/{self.stream}/records",
            content=sent,
            headers={**BEARER, "content-type": kind, **headers},
            timeout=30,
        )

    def ask(self, method, path, **given):
        assert self.validation is not None
        url = f"{self.validation.url}{path}"
        return httpx.request(method, url, timeout=30, **{"headers": BEARER, **given})

    async def judged(self, *, rows, quarantined=0, duplicates=0):
        """Return once so many rows were."""

        async def come():
            found = self.ask("GET", f"/v1/streams/{self.stream}/progress").json()
            parked = self.ask("GET", f"/v1/quarantine?stream={self.stream}").json()
            told = (found["rows"], len(parked), found["duplicates"])
            return told == (rows, quarantined, duplicates)

        await until(come, timeout_s=90)

    async def mark(self, number):
        """Let time pass, so that a version is announced."""
        await self.world.mark(self.stream, START + timedelta(minutes=number))

        async def announced():
            found = self.ask("GET", f"/v1/streams/{self.stream}/progress").json()
            time = found["watermark"]
            return time and datetime.fromisoformat(time) >= START + timedelta(minutes=number)

        await until(announced, timeout_s=60)

    def versions(self):
        listed = self.ask("GET", f"/v1/datasets?stream={self.stream}&limit=1000").json()
        return {one["version"]: one for one in listed}

    def table(self, version=None):
        return DeltaTable(
            self.world.table_uri(self.stream),
            version=version,
            storage_options=self.world.table_options(),
        )

    def rows(self, version=None):
        return self.table(version).to_pyarrow_dataset().to_table().to_pylist()

    def files(self):
        """Yield each file of the table's folder, whatever version it is of."""
        files = PyFileSystem(
            DeltaStorageHandler(self.world.table_uri(self.stream), self.world.table_options())
        )
        for info in files.get_file_info(FileSelector("", recursive=True, allow_not_found=True)):
            if info.type is FileType.File:
                with files.open_input_file(info.path) as file:
                    yield info.path, file.readall()

    async def execute(self, sql):
        """Do something to validation's tables behind its back."""
        connection = await asyncpg.connect(self.world.dsn)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    async def audited(self):
        """Return what `gyral audit` would say of places and pins, by its own queries."""
        connection = await asyncpg.connect(self.world.dsn)
        try:
            aside = {}
            for kind, query in checking.PLACES.items():
                rows = await connection.fetch(_ours(query), lake.ROWS)
                aside[kind] = {(row[0], row[1]): np.array(row[2], np.int64) for row in rows}
            pins = [lake.Pin(*row) for row in await connection.fetch(_ours(checking.PINNED))]
            erased = {row[0]: row[1] for row in await connection.fetch(_ours(checking.ERASED))}
        finally:
            await connection.close()
        async with connect(self.world.backends.kafka_brokers) as log:
            reach = await log.reach([RECORDS])
        keys = await self.world.blobs.list_keys("lake/")
        tables = sorted({key.split("/")[1] for key in keys})
        shelf = Lake(f"s3://{self.world.blobs.bucket}/lake", self.world.table_options())
        offsets = lake.offsets(shelf, tables, aside, reach)
        return [*offsets, *lake.pinned(shelf, pins)], erased.get(self.stream, 0)

    async def where(self, text):
        """Return everywhere a text is found: lake, tables, log and what was printed."""
        found = []
        for path, data in self.files():
            unpacked: list[object] = []
            if path.endswith(".parquet") and "_delta_log" not in path:
                unpacked = pq.read_table(pa.BufferReader(data)).to_pylist()
            if text.encode() in data or text in repr(unpacked):
                found.append(f"lake {path}")
        for dsn in (self.world.dsn, *self.schemas):
            found += await _tables_with(dsn, text)
        async for record in read_all(self.world.backends.kafka_brokers, RECORDS):
            parts = [record.key or b"", record.value or b""]
            parts += [value or b"" for _, value in record.headers]
            if any(text.encode() in part for part in parts):
                found.append(f"kafka {record.partition}/{record.offset}")
        for path in self.folder.rglob("*"):
            if path.is_file() and text.encode() in path.read_bytes():
                found.append(f"file {path.name}")
        return found


def _ours(query):
    """Return a query of an instance's schema as one of this test's own."""
    return query.replace("validation.", "")


async def _tables_with(dsn, text):
    connection = await asyncpg.connect(dsn)
    try:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        )
        found = []
        for (name,) in tables:
            for (row,) in await connection.fetch(f'SELECT each::text FROM "{name}" AS each'):  # noqa: S608
                plain = re.sub(r"\\\\x([0-9a-f]+)", lambda hit: hit[0] + _told(hit[1]), row)
                if text in plain:
                    found.append(f"table {name}")
        return found
    finally:
        await connection.close()


def _told(digits):
    return bytes.fromhex(digits[: len(digits) // 2 * 2]).decode("utf-8", "replace")


@asynccontextmanager
async def house(world, folder):
    """Run the door; validation is started by whoever asks."""
    async with fresh_schema(world.backends) as dsn:
        env = world.backends.service_env(database=dsn, bucket=world.blobs.bucket)
        door = ServiceProcess(
            "gyral.ingestion", {**env, "STATE_DIR": str(folder)}, folder / "ingestion.log"
        )
        made = House(world, folder, door, [dsn])
        spec = {"key": "trip", "subject": "who", "fields": FIELDS}
        await send(world.producer, declared(made.stream, **spec))
        try:
            door.start()
            yield made
        finally:
            # Others' tests are of a platform without people in it.
            topic = StreamDeclared.topic.name
            await world.producer.send_and_wait(topic, None, key=made.stream.encode())
            door.stop()
            if made.validation is not None:
                made.validation.stop()
