"""An instance of its own with the data plane's processes, and the faults they meet."""

import asyncio
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx

from gyral.local.processes import Identity
from gyral.testkit.backends import PERSONAL_SECRET, Backends, start_backends
from gyral.testkit.processes import NotUpError, ServiceProcess
from gyral.testkit.waiting import until
from tests.chaos import reading, rows
from tests.chaos.checker import State
from tests.chaos.plans import DOOR, JUDGES, Fault, Kind
from tests.chaos.sender import TOPIC, Sender

SCHEMA = "validation"
SINK = "validation.records"
SESSION_S = 10.0
OUTAGE_S = 30.0
_UP_S = 120.0
_STREAMS = "data.stream.declared.v1"


@dataclass(frozen=True, slots=True)
class House:
    """Back ends, one ingestion and two validations that share one group."""

    backends: Backends
    processes: Mapping[str, ServiceProcess]

    @classmethod
    def opened(cls, home: Path) -> "House":
        """Start the back ends; the processes are made and not yet started."""
        backends = start_backends(home)
        processes = {
            name: ServiceProcess(
                f"gyral.{name.partition('-')[0]}",
                _environment(backends, name),
                home / "logs" / f"{name}.log",
            )
            for name in (DOOR, *JUDGES)
        }
        return cls(backends, processes)

    async def start(self, names: Iterable[str]) -> None:
        """Return once these are ready."""
        await asyncio.gather(*(self._started(name) for name in names))

    async def close(self) -> None:
        """End everything."""
        for process in self.processes.values():
            await asyncio.to_thread(process.kill)
        await asyncio.to_thread(self.backends.stack.down)

    async def meet(self, fault: Fault, sender: Sender) -> None:
        """Have a fault happen, and return once rows get through again."""
        match fault.kind:
            case Kind.KILL | Kind.KILL_TWICE:
                await self._killed(fault)
            case Kind.ZOMBIE:
                await self._frozen(fault.victim)
            case Kind.BROKER:
                await asyncio.to_thread(self.backends.stack.kill, fault.victim)
                await asyncio.to_thread(self.backends.stack.await_up, [fault.victim])
            case Kind.DATABASE:
                await self._crashed(fault.victim)
            case Kind.STORE:
                await self._away(fault.victim)
            case Kind.UPGRADE:
                await self._upgraded(sender)
        await self._gets_through(fault, sender)

    async def settled(self) -> None:
        """Return once all that Kafka has was judged."""
        ends = await reading.ends(self.backends.kafka_brokers, TOPIC)
        wanted = {partition: end for partition, end in ends.items() if end}

        async def judged() -> bool:
            return await self.stored() == wanted

        await until(judged, timeout_s=_UP_S)

    async def state(self, stream: str) -> State:
        """Return what is there now."""
        conn = await self._connected()
        try:
            bucket = self.backends.s3()
            options = {
                "aws_endpoint": bucket.s3_endpoint,
                "aws_access_key_id": bucket.s3_access_key,
                "aws_secret_access_key": bucket.s3_secret_key.get_secret_value(),
                "aws_region": "us-east-1",
                "aws_allow_http": "true",
            }
            uri = f"s3://{bucket.s3_bucket}/lake/{stream}"
            return State(
                lake=reading.lake(uri, options),
                quarantine=await reading.quarantine(conn, SCHEMA, TOPIC),
                duplicates=await reading.places(conn, SCHEMA, "duplicate", TOPIC),
                markers=await reading.places(conn, SCHEMA, "marker", TOPIC),
                ends=await reading.ends(self.backends.kafka_brokers, TOPIC),
                pins=await reading.pins(conn, SCHEMA, stream, uri, options),
            )
        finally:
            await conn.close()

    async def stored(self) -> dict[int, int] | None:
        """Return how far validation got, by partition; None while nobody can say."""
        try:
            conn = await self._connected()
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return None
        try:
            return await reading.stored_offsets(conn, SCHEMA, SINK)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return None
        finally:
            conn.terminate()

    async def _connected(self) -> asyncpg.Connection:
        return await asyncpg.connect(self.backends.postgres_admin_dsn, timeout=5)

    async def _started(self, name: str, health: str = "/health/ready") -> None:
        process = self.processes[name]
        await asyncio.to_thread(process.start, health=health, within_s=_UP_S)

    async def _killed(self, fault: Fault) -> None:
        process = self.processes[fault.victim]
        await asyncio.to_thread(process.kill)
        if fault.kind is Kind.KILL_TWICE:
            await self._started(fault.victim, "/health/live")
            await asyncio.to_thread(process.kill)
        await self._started(fault.victim)

    async def _frozen(self, name: str) -> None:
        """Hold a process until its session is over and its heir went on with all it had."""
        process = self.processes[name]
        process.freeze()
        await self._passed(SESSION_S + 1)
        before = await self.stored() or {}

        async def inherited() -> bool:
            now = await self.stored()
            return now is not None and (
                all(now[at] > offset for at, offset in before.items()) or await self._blocked()
            )

        await until(inherited, timeout_s=_UP_S)
        process.thaw()
        try:
            await asyncio.to_thread(process.wait_for, within_s=_UP_S)
        except NotUpError:
            await self._started(name)

    async def _blocked(self) -> bool:
        """Tell whether somebody waits for a lock: it died with its transaction open."""
        conn = await self._connected()
        try:
            waiting = await conn.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            )
            return bool(waiting)
        finally:
            await conn.close()

    async def _crashed(self, name: str) -> None:
        """End the database without a checkpoint: it recovers from its log."""
        before = self._identity(name)
        before.signal(signal.SIGQUIT)
        await until(lambda: not before.alive(), timeout_s=_UP_S)
        await until(lambda: self._identity(name) != before, timeout_s=_UP_S)
        await asyncio.to_thread(self.backends.stack.await_up, [name])

    async def _away(self, name: str) -> None:
        """Let the object store take connections and answer nobody."""
        store = self._identity(name)
        store.signal(signal.SIGSTOP)
        try:
            await self._passed(OUTAGE_S)
        finally:
            store.signal(signal.SIGCONT)

    async def _upgraded(self, sender: Sender) -> None:
        """Declare the next generation; the door must know it before its rows come that way."""
        await sender.tell(_STREAMS, sender.stream, rows.declaration(sender.stream, 2))

        async def known() -> bool:
            answer = await sender.door.get("/v1/projections")
            generations = answer.json().get(_STREAMS, {}) if answer.is_success else {}
            return bool(generations.get(sender.stream) == 2)

        await until(known, timeout_s=_UP_S)
        sender.version = 2

    async def _gets_through(self, fault: Fault, sender: Sender) -> None:
        answered, stored = sender.answered, await self.stored()

        async def more() -> bool:
            now = await self.stored()
            judged = now is not None and (
                stored is None or sum(now.values()) > sum(stored.values())
            )
            return sender.answered > answered and (judged or fault.victim == DOOR)

        await until(more, timeout_s=_UP_S)

    async def _passed(self, seconds: float) -> None:
        due = time.monotonic() + seconds
        await until(lambda: time.monotonic() >= due, timeout_s=seconds + 5)

    def _identity(self, name: str) -> Identity:
        status = self.backends.stack.statuses()[name]
        return Identity(status.pid or os.getpid(), status.started)


def door_client(house: House, key: str) -> httpx.AsyncClient:
    """Return what an upstream speaks to the door with."""
    return httpx.AsyncClient(
        base_url=house.processes[DOOR].url,
        headers={"authorization": f"Bearer {key}"},
        timeout=15,
        trust_env=False,
    )


def _environment(backends: Backends, name: str) -> dict[str, str]:
    role = name.partition("-")[0]
    secret = backends.env[f"{role.upper()}_DATABASE_SECRET"]
    bucket = backends.s3()
    return {
        "KAFKA_BROKERS": backends.kafka_brokers,
        "DATABASE": f"postgresql://{role}:{secret}@{backends.env['POSTGRES_ADDRESS']}/gyral",
        "S3_ENDPOINT": bucket.s3_endpoint,
        "S3_ACCESS_KEY": bucket.s3_access_key,
        "S3_SECRET_KEY": bucket.s3_secret_key.get_secret_value(),
        "S3_BUCKET": bucket.s3_bucket,
        "PERSONAL_SECRET": PERSONAL_SECRET,
        "INSTANCE_ID": name,
        # Nearly always in the middle of a batch when something happens.
        "VALIDATION_BATCH_WAIT_S": "0.2",
        "VALIDATION_COMPACT_EVERY": "10",
    }
