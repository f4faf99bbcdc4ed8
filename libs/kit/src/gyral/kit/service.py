"""A service as a process: its parts started in order, watched while it runs, stopped in reverse."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp

from gyral.kit import db, exporters
from gyral.kit.backoff import Backoff
from gyral.kit.db import Pool, is_infrastructure
from gyral.kit.health import Health
from gyral.kit.migrate import migrate
from gyral.kit.settings import ProcessSettings
from gyral.kit.telemetry import get_log
from gyral.kit.threads import require_single_threaded

log = get_log()


class Part(Protocol):
    """Something that runs inside a service: a projection, relay, bus, sink, worker or timer."""

    async def start(self) -> None:
        """Begin; return when it works."""

    async def stop(self) -> None:
        """End in good order."""

    def healthy(self) -> str | None:
        """Answer None while it lives."""


class Periodic:
    """Calls something again and again; infrastructure that is away is waited for."""

    def __init__(self, name: str, call: Callable[[], Awaitable[None]], *, every_s: float) -> None:
        self._name = name
        self._call = call
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start calling; the first call comes at once."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Stop calling."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def healthy(self) -> str | None:
        """Answer None while the calling goes on."""
        if self._task is None or self._task.done():
            return f"{self._name}: expected it to run; found it ended or not started"
        return None

    async def _run(self) -> None:
        backoff = Backoff(first_s=0.2, limit_s=5.0)
        while True:
            try:
                await self._call()
                backoff.reset()
                await asyncio.sleep(self._every_s)
            except Exception as error:
                if not is_infrastructure(error):
                    raise
                log.warning("periodic.waits", name=self._name, error=type(error).__name__)
                await backoff.wait()


@dataclass(slots=True)
class Service:
    """Everything one process is made of; `parts` start in this order and stop in reverse."""

    name: str
    settings: ProcessSettings
    health: Health
    api: ASGIApp
    parts: Sequence[Part] = ()
    pool: Pool | None = None
    migrations: Traversable | None = None
    on_start: Sequence[Callable[[], Awaitable[None]]] = ()
    """Called once the database is up to date and before any part starts."""
    running: list[Part] = field(default_factory=list)

    async def run(self) -> None:
        """Run until told to stop.

        Raises:
            SystemExit: a part died; the supervisor starts the process again.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        server = _server(self.api, self.settings)
        serving = asyncio.create_task(server.serve(), name="http")
        starting = asyncio.create_task(self._start(), name="start")
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starting, stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                died = await self._watch(stopped, serving)
            else:
                starting.cancel()
                died = None if stopped.done() else "http: the server has ended"
        finally:
            await self._stop(server, serving, stopped)
        if died is not None:
            log.error("service.died", reason=died)
            sys.exit(f"{self.name}: {died}")

    async def _start(self) -> None:
        if self.pool is not None:
            await self._prepare_database(self.pool)
        for call in self.on_start:
            await call()
        for part in self.parts:
            await part.start()
            self.running.append(part)
            self.health.live.append(part.healthy)
        gc.collect()
        gc.freeze()
        self.health.started = True
        log.info("service.started", port=self.settings.http_port)

    async def _prepare_database(self, pool: Pool) -> None:
        backoff = Backoff(first_s=0.2, limit_s=5.0)
        while True:
            try:
                await pool
                await migrate(pool, self.migrations, service=self.name)
            except Exception as error:
                if not is_infrastructure(error):
                    raise
                log.warning("service.waits_for_database", error=type(error).__name__)
                await backoff.wait()
            else:
                return

    async def _watch(self, stopped: "asyncio.Task[bool]", serving: "asyncio.Task[None]") -> str | None:
        """Return None when told to stop, or what died."""
        while not stopped.done():
            await asyncio.wait({stopped, serving}, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            if serving.done() and not stopped.done():
                return "http: the server has ended"
            dead = self.health.dead()
            if dead and not stopped.done():
                return dead[0]
        return None

    async def _stop(
        self, server: uvicorn.Server, serving: "asyncio.Task[None]", stopped: "asyncio.Task[bool]"
    ) -> None:
        """Say unready, finish what is in hand, then let go in reverse order."""
        self.health.stopping = True
        stopped.cancel()
        server.should_exit = True
        with suppress(asyncio.CancelledError, SystemExit):
            await serving
        for part in reversed(self.running):
            with suppress(*db.INFRASTRUCTURE):
                await part.stop()
        if self.pool is not None:
            with suppress(*db.INFRASTRUCTURE):
                async with asyncio.timeout(5):
                    await self.pool.close()
        log.info("service.stopped")
        await asyncio.to_thread(exporters.flush)


def serve(service: Service) -> None:
    """Run a service as this process: the last line of every `__main__`."""
    require_single_threaded()
    settings = service.settings
    exporters.setup(
        service.name,
        traces_endpoint=settings.otel_exporter_otlp_traces_endpoint,
        log_level=settings.log_level,
    )
    import uvloop  # noqa: PLC0415 - only processes that serve need it

    uvloop.run(service.run())


def _server(api: ASGIApp, settings: ProcessSettings) -> uvicorn.Server:
    config = uvicorn.Config(
        api,
        host=settings.http_host,
        port=settings.http_port,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=1024,
        backlog=512,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=16 << 10,
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    return server
