"""The gateway's own routes behind its real HTTP server, without Kafka or a runtime's models."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.contracts.deployment import Input, RouteChanged, Share
from gyral.gateway import app
from gyral.gateway.api.protocol import OpenInference
from gyral.gateway.api.rpc import RpcServer
from gyral.gateway.settings import Settings
from gyral.kit.access import KeyRing
from gyral.kit.frames import Batch, Kind
from gyral.kit.journal import Journal
from gyral.kit.segments import Entry, Position
from gyral.kit.server import HttpServer
from gyral.testkit.projections import MemoryProjection

from .conftest import INPUTS
from .peer import Peer

MODEL = "delay"
KEYS = {"asker": Scope.INFER, "sender": Scope.INGEST, "reader": Scope.READ, "root": Scope.ADMIN}


def halves(batch: Batch) -> tuple[Kind, bytes]:
    """Answer 0.0 for each row."""
    return Kind.PROBABILITIES, bytes(8 * sum(rows.count for rows in batch.requests))


@dataclass(frozen=True, slots=True)
class Door:
    """Where to ask, and what is remembered of it."""

    api: OpenInference
    port: int
    rpc_port: int
    journal: Journal
    client: httpx.AsyncClient
    peer: Peer

    async def ask(self, path: str, body: bytes = b"", *, key: str = "asker") -> httpx.Response:
        """POST as the holder of a key."""
        headers = {"authorization": f"Bearer {key}"}
        return await self.client.post(path, content=body, headers=headers)

    async def talk(self, *sent: bytes) -> bytes:
        """Send pieces as they are and return everything until the server hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for piece in sent:
            writer.write(piece)
            await writer.drain()
        try:
            async with asyncio.timeout(20):
                return await reader.read()
        finally:
            writer.close()

    async def remembered(self) -> list[Entry]:
        """What the journal holds."""
        return [entry for entry, _ in await self.journal.read(Position(0, 0))]


@asynccontextmanager
async def open_door(
    folder: Path, socket: Path, inputs: tuple[Input, ...] = INPUTS
) -> AsyncIterator[Door]:
    """Yield the gateway as `app.build` makes it, its keys and its route put in by hand."""
    service = app.build(
        Settings(kafka_brokers="127.0.0.1:1", state_dir=folder, gateway_grpc_port=0)
    )
    api = service.api
    assert isinstance(api, OpenInference)
    keys = MemoryProjection(AccessKeyChanged)
    front = api.front
    front.keys = api.rest.state.keys = KeyRing(keys)  # type: ignore[attr-defined]
    for name, scope in KEYS.items():
        digest = hashlib.sha256(name.encode()).hexdigest()
        key_id = str(uuid.uuid4())
        await keys.put(
            AccessKeyChanged(key_id=key_id, name=name, sha256=digest, scopes=frozenset({scope}))
        )
    digest = hashlib.sha256(b"stranger").hexdigest()
    await keys.put(
        AccessKeyChanged(
            key_id=str(uuid.uuid4()),
            name="stranger",
            sha256=digest,
            scopes=frozenset({Scope.INFER}),
            models=frozenset({"another"}),
        )
    )
    peer = Peer(socket)
    peer.answer = halves
    await peer.start()
    share = Share(version=1, weight=100, slot=f"{MODEL}@1", sha256="0" * 64, inputs=inputs)
    front.table.follow(
        MODEL,
        RouteChanged(
            model=MODEL, epoch=1, shares=(share,), runtime=f"unix:{socket}", event_clock=False
        ),
    )
    front.answering.fleet.follow(front.table.routes())
    journal = front.answering.journal
    await journal.open()
    service.health.started = True
    [rpc] = [part for part in service.parts if isinstance(part, RpcServer)]
    await rpc.start()
    server = HttpServer(api, host="127.0.0.1", port=0)
    await server.start()
    url = f"http://127.0.0.1:{server.port}"
    try:
        async with httpx.AsyncClient(base_url=url) as client:
            yield Door(api, server.port, rpc.port, journal, client, peer)
    finally:
        await server.stop()
        await rpc.stop()
        await front.answering.fleet.stop()
        await peer.kill()
        journal.close()
