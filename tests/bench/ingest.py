"""How fast rows come in over HTTP, against a bare application in the same run."""

import asyncio
import hashlib
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from aiokafka import AIOKafkaProducer

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.testkit.backends import (
    PERSONAL_SECRET,
    Backends,
    fresh_schema,
    fresh_topic,
    make_topics,
)
from gyral.testkit.events import send
from gyral.testkit.processes import ServiceProcess, free_port
from gyral.testkit.waiting import until
from tests.bench.rows import as_arrow, as_ndjson, declared, rows

CONNECTIONS = 4
ROUNDS = 4
WARM_UP_S = 1.0
_LINES = "application/x-ndjson"
_COLUMNS = "application/vnd.apache.arrow.stream"
_BODIES = 20
SECRET = "key-of-this-benchmark"
_STREAM = "bench-rows"


@dataclass(frozen=True, slots=True)
class Ingested:
    """Rows a second, each of the same rows in the same run."""

    bare_rows_per_s: float
    """NDJSON bodies of 1,000 rows into the bare application."""
    ndjson_rows_per_s: float
    arrow_rows_per_s: float
    """Arrow bodies of the same 1,000 rows."""
    arrow_10k_rows_per_s: float
    """Arrow bodies of 10,000 rows."""

    @property
    def ingest_ratio(self) -> float:
        """Ingestion against the bare application, the same NDJSON bodies."""
        return self.ndjson_rows_per_s / self.bare_rows_per_s

    @property
    def arrow_over_ndjson(self) -> float:
        """Arrow bodies against NDJSON bodies, both of 1,000 rows."""
        return self.arrow_rows_per_s / self.ndjson_rows_per_s

    @property
    def arrow_10k_over_ndjson(self) -> float:
        """Arrow bodies of 10,000 rows against NDJSON bodies of 1,000."""
        return self.arrow_10k_rows_per_s / self.ndjson_rows_per_s


@dataclass(frozen=True, slots=True)
class Case:
    """What is sent, over and over: ready-made bodies of so many rows."""

    port: int
    content_type: str
    bodies: Sequence[bytes]
    rows: int

    def requests(self) -> Sequence[bytes]:
        """Return the bodies as whole HTTP requests."""
        return [
            (
                f"POST /v1/streams/{_STREAM}/records HTTP/1.1\r\nhost: bench\r\n"
                f"authorization: Bearer {SECRET}\r\ncontent-type: {self.content_type}\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            ).encode()
            + body
            for body in self.bodies
        ]


async def run(backends: Backends, *, seconds: float = 12.0) -> Ingested:
    """Measure all cases, each for so long, in turns: what else the machine does hits all."""
    small = [rows(1000, first=at * 1000) for at in range(_BODIES)]
    large = [as_arrow(rows(10_000, first=at * 10_000, prefix="g")) for at in range(4)]
    ndjson, arrow = [as_ndjson(one) for one in small], [as_arrow(one) for one in small]
    async with bare(backends) as bare_port, ingestion(backends) as door:
        port = door.port
        cases = (
            Case(bare_port, _LINES, ndjson, 1000),
            Case(port, _LINES, ndjson, 1000),
            Case(port, _COLUMNS, arrow, 1000),
            Case(port, _COLUMNS, large, 10_000),
        )
        for case in cases:
            await _load(case.port, case.requests(), WARM_UP_S)
        rates = [[await rate(case, seconds / ROUNDS) for case in cases] for _ in range(ROUNDS)]
    return Ingested(*(fmean(of_case) for of_case in zip(*rates, strict=True)))


async def rate(case: Case, seconds: float) -> float:
    """Return rows a second that a few connections get answered 202."""
    requests = case.requests()
    started = time.perf_counter()
    answered = await _load(case.port, requests, seconds)
    return answered * case.rows / (time.perf_counter() - started)


@asynccontextmanager
async def ingestion(backends: Backends, stream: str = _STREAM) -> AsyncIterator[ServiceProcess]:
    """Run the real ingestion with a stream and a key of the benchmark's own."""
    producer = AIOKafkaProducer(bootstrap_servers=backends.kafka_brokers, acks="all")
    await producer.start()
    await send(producer, declared(stream))
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    scopes = frozenset({Scope.INGEST})
    key = AccessKeyChanged(key_id=str(uuid.uuid4()), name="bench", sha256=digest, scopes=scopes)
    await send(producer, key)
    await producer.stop()
    with tempfile.TemporaryDirectory() as folder:
        async with fresh_schema(backends) as dsn:
            env = {
                "KAFKA_BROKERS": backends.kafka_brokers,
                "DATABASE": dsn,
                "STATE_DIR": folder,
                "PERSONAL_SECRET": PERSONAL_SECRET,
            }
            process = ServiceProcess("gyral.ingestion", env, Path(folder) / "log")
            await asyncio.to_thread(process.start)
            try:
                yield process
            finally:
                await asyncio.to_thread(process.stop)


@asynccontextmanager
async def bare(backends: Backends) -> AsyncIterator[int]:
    """Run the bare application on a topic with as many partitions."""
    topic = fresh_topic(partitions=3)
    await make_topics(backends.kafka_brokers, topic)
    port = free_port()
    env = {**os.environ, "KAFKA_BROKERS": backends.kafka_brokers, "BARE_TOPIC": topic.name}
    process = await asyncio.to_thread(
        subprocess.Popen, [sys.executable, "-m", "tests.bench.bare_ingest", str(port)], env=env
    )
    try:
        await until(lambda: _listens(port))
        yield port
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


async def _load(port: int, requests: Sequence[bytes], seconds: float) -> int:
    """Send over a few connections for so long, and return how many requests were taken."""
    until_s = time.perf_counter() + seconds
    counts = await asyncio.gather(
        *(_connection(port, requests, number, until_s) for number in range(CONNECTIONS))
    )
    return sum(counts)


async def _connection(port: int, requests: Sequence[bytes], first: int, until_s: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    while time.perf_counter() < until_s:
        writer.write(requests[(first + count * CONNECTIONS) % len(requests)])
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 202 " not in head[:20]:
            raise RuntimeError(f"expected 202; found {head!r} {await reader.read(1000)!r}")
        await _skip_body(reader, head.lower())
        count += 1
    writer.close()
    await writer.wait_closed()
    return count


async def _skip_body(reader: asyncio.StreamReader, head: bytes) -> None:
    if b"content-length:" in head:
        await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
        return
    while size := int(await reader.readline(), 16):
        await reader.readexactly(size + 2)
    await reader.readline()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
