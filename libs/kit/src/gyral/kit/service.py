"""A service as a process: everything it is made of, started in order, stopped in reverse."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import NoReturn, Protocol

import uvloop
from starlette.types import ASGIApp

from gyral.kit import exporters
from gyral.kit.backoff import Backoff
from gyral.kit.db import Pool, is_infrastructure
from gyral.kit.migrate import migrate
from gyral.kit.server import HttpServer
from gyral.kit.settings import CommonSettings
from gyral.kit.telemetry import get_log
from gyral.kit.threads import require_single_threaded

_WATCH_S = 1.0
_STRIKES = 5
log = get_log()


class Component(Protocol):
    """A part with a life of its own."""

    async def start(self) -> None:
        """Return once it works, or is on its way to."""

    async def stop(self) -> None:
        """Return once it has let go of everything."""

    def healthy(self) -> str | None:
        """Answer None, or what only a restart can repair."""


@dataclass(frozen=True, slots=True)
class Service:
    """What `app.build(settings)` returns; nothing in it has touched the network yet.

    Started in the order of the fields: schema, projections, relay, bus, data planes, workers, tasks, HTTP.
    """

    name: str
    settings: CommonSettings
    pool: Pool | None = None
    migrations: Traversable | None = None
    projections: Sequence[Component] = ()
    relay: Component | None = None
    bus: Component | None = None
    dataplanes: Sequence[Component] = ()
    workers: Sequence[Component] = ()
    tasks: Sequence[Component] = ()
    api: ASGIApp | None = None
    limit_concurrency: int = 512

    def components(self) -> list[Component]:
        """Return the parts in the order they start."""
        parts: list[Component | None] = []
        if self.pool is not None:
            parts.append(_Schema(self.pool, self.migrations, self.name))
        parts += [*self.projections, self.relay, self.bus, *self.dataplanes, *self.workers, *self.tasks]
        if self.api is not None:
            parts.append(
                HttpServer(
                    self.api,
                    host=self.settings.http_host,
                    port=self.settings.http_port,
                    limit_concurrency=self.limit_concurrency,
                )
            )
        return [part for part in parts if part is not None]


def serve(service: Service) -> NoReturn:
    """Run a service until SIGTERM or until a part of it dies; the exit status tells which."""
    require_single_threaded()
    settings = service.settings
    exporters.setup(
        service.name,
        traces_endpoint=settings.otel_exporter_otlp_traces_endpoint,
        log_level=settings.log_level,
    )
    try:
        status = uvloop.run(run(service))
    finally:
        exporters.flush()
    sys.exit(status)


async def run(service: Service) -> int:
    """Start everything, wait for the end, stop in reverse; return the exit status."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    running: list[Component] = []
    stopping = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(_start(service, running))
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            log.info("service.started", service=service.name)
            return await _watch(service.name, running, stop)
        return 0
    except OSError as error:
        log.critical("service.not_started", error=str(error))
        return 1
    finally:
        for task in (starting, stopping):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
        await _stop(running)
        log.info("service.stopped", service=service.name)


async def _start(service: Service, running: list[Component]) -> None:
    for part in service.components():
        running.append(part)
        await part.start()


async def _watch(name: str, running: Sequence[Component], stop: asyncio.Event) -> int:
    """Wait for the stop signal; a part that stays dead for some seconds ends the process with status 1."""
    strikes = 0
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(_WATCH_S):
                await stop.wait()
                return 0
        wrong = [reason for part in running if (reason := part.healthy()) is not None]
        strikes = strikes + 1 if wrong else 0
        if strikes >= _STRIKES:
            log.critical("service.died", service=name, reasons=wrong)
            return 1


async def _stop(running: Sequence[Component]) -> None:
    for part in reversed(running):
        try:
            async with asyncio.timeout(20):
                await part.stop()
        except Exception as error:  # one part's trouble must not keep the others from stopping
            log.error("service.part_not_stopped", part=type(part).__name__, exc_info=error)


class _Schema:
    """The pool and the schema behind it, as the first part of a service."""

    def __init__(self, pool: Pool, migrations: Traversable | None, service: str) -> None:
        self._pool = pool
        self._migrations = migrations
        self._service = service

    async def start(self) -> None:
        backoff = Backoff(first_s=0.2, limit_s=5.0)
        await self._pool
        while True:
            try:
                await migrate(self._pool, self._migrations, service=self._service)
            except Exception as error:
                if not is_infrastructure(error):
                    raise
                log.warning("schema.waits", error=type(error).__name__)
                await backoff.wait()
            else:
                return

    async def stop(self) -> None:
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    def healthy(self) -> str | None:
        return None
