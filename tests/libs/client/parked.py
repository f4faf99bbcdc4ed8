"""A platform of parked things alone: real routes over real tables, and the command line."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import orjson

from gyral.client.commands.letters import SERVICES
from gyral.kit import deadletter_api
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.kit.server import HttpServer
from gyral.testkit.backends import fresh_schema, migrated_pool
from gyral.validation.api import quarantine
from tests.libs.kit.effects import Effects
from tests.libs.kit.line import Line
from tests.libs.kit.operators import operators
from tests.services.validation.desk import Desk


@dataclass
class Parked:
    """Services with letters and refused rows, and what a person types."""

    lines: dict[str, Line]
    desk: Desk
    environment: dict[str, str]
    folder: Path
    aftermath: dict[str, Callable[[], Awaitable[None]]]
    """What happens by service once an order is carried out, before it is answered."""

    async def type(self, *words, key="op", status=0):
        """Run `gyral` with these words and return what it says; fails on another status."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gyral.client", *words),
            env={**self.environment, "GYRAL_API_KEY": key},
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == status, f"{words}\n{out.decode()}{err.decode()}"
        return (err if status else out).decode()

    async def read(self, *words):
        """Run `gyral` and return its JSON."""
        return orjson.loads(await self.type(*words, "-o", "json"))


@asynccontextmanager
async def parked_platform(stack, folder):
    """Serve the routes of every service that parks, and of the quarantine."""
    ring = await operators()
    environment = {**os.environ, "GYRAL_HOME": str(folder / "none"), "COLUMNS": "400"}
    lines: dict[str, Line] = {}
    aftermath: dict[str, Callable[[], Awaitable[None]]] = {}
    async with AsyncExitStack() as held:

        async def serve(service, routes):
            api = create_api(service, [routes], keys=ring, health=Health())
            server = HttpServer(
                _before_answering(api, service, aftermath), host="127.0.0.1", port=0
            )
            await server.start()
            held.push_async_callback(server.stop)
            name = f"GYRAL_{service.upper()}_URL"
            environment[name] = f"http://127.0.0.1:{server.port}"

        for service in SERVICES:
            dsn = await held.enter_async_context(fresh_schema(stack))
            pool = await held.enter_async_context(migrated_pool(dsn, service=service))
            await pool.execute(
                "CREATE TABLE effect (seq bigserial, thing text, number integer)"
            )
            lines[service] = Line(pool, Effects(pool, service), service)
            await serve(service, deadletter_api.routes(pool, service))
        dsn = await held.enter_async_context(fresh_schema(stack))
        migrations = resources.files("gyral.validation") / "migrations"
        pool = await held.enter_async_context(
            migrated_pool(dsn, service="validation", migrations=migrations)
        )
        desk = Desk(pool)
        await serve("validation", quarantine.routes(desk.found, desk.replay.run, desk.parking))
        yield Parked(lines, desk, environment, folder, aftermath)


def _before_answering(api, service, aftermath):
    """Return the API, with what the service comes to do after each order done by its answer."""

    async def app(scope, receive, send):
        async def answer(message):
            ordered = scope.get("path", "").endswith("/replay")
            if ordered and message["type"] == "http.response.start" and service in aftermath:
                await aftermath[service]()
            await send(message)

        await api(scope, receive, answer)

    return app
