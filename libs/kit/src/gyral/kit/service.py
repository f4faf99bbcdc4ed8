"""A service as a process: parts started in order, watched while it runs, stopped in reverse."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.resources.abc import Traversable
from typing import Protocol

import uvloop
from starlette.types import ASGIApp

from gyral.kit import exporters
from gyral.kit.backoff import Backoff
from gyral.kit.db import Pool, is_infrastructure
from gyral.kit.health import Health, UnstartableError
from gyral.kit.letterbox import forget_letters
from gyral.kit.migrate import migrate
from gyral.kit.periodic import Periodic
from gyral.kit.server import HttpServer
from gyral.kit.settings import ProcessSettings
from gyral.kit.telemetry import get_log
from gyral.kit.threads import require_single_threaded
from gyral.kit.tx import forget_claims

_WATCH_S = 1.0
_STRIKES = 3
_UPKEEP_S = 3600.0
_STOP_S = 20.0
_READY_S = 3.0
_GC_THRESHOLDS = (100_000, 50, 100)
"""Batches and requests live in bulk and die by reference counts; cycles are few."""
log = get_log()

__all__ = ["Part", "Periodic", "Service", "serve"]


class Part(Protocol):
    """Something that runs inside a service: a projection, relay, bus, sink, worker or timer."""

    async def start(self) -> None:
        """Begin; return when it works."""

    async def stop(self) -> None:
        """End in good order."""

    def healthy(self) -> str | None:
        """Answer None while it lives, else what only a restart can repair."""


@dataclass(slots=True)
class Service:
    """Everything one process is made of; `parts` start in this order and stop in reverse.

    The order is: projections, relay, bus, data planes, workers, timers. HTTP listens from the
    first moment, unready until all parts have started; on an inherited socket, once ready.
    """

    name: str
    settings: ProcessSettings
    health: Health
    api: ASGIApp
    parts: Sequence[Part] = ()
    pool: Pool | None = None
    migrations: Traversable | None = None
    on_start: Sequence[Callable[[], Awaitable[None]]] = ()
    """Called once the database is up to date and before any part starts."""
    limit_concurrency: int = 1024
    """Requests at once beyond which callers get 503."""
    running: list[Part] = field(default_factory=list)

    async def run(self) -> None:
        """Run until told to stop.

        Raises:
            SystemExit: a part died, or HTTP could not listen; the supervisor starts it again.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        server = HttpServer(
            self.api,
            host=self.settings.http_host,
            port=self.settings.http_port,
            listen_fd=self.settings.http_listen_fd,
            limit_concurrency=self.limit_concurrency,
        )
        if not self._inherits:
            try:
                await self._listen(server)
            except UnstartableError as error:
                sys.exit(f"{self.name}: {error}")
        died: str | None = None
        starting = asyncio.create_task(self._start(server), name="start")
        try:
            died = await self._watch(starting, stop)
            if died is None and self.health.started:
                await server.drain()
        except UnstartableError as error:
            died = str(error)
        finally:
            await self._stop(server, starting)
        if died is not None:
            log.critical("service.died", reason=died)
            sys.exit(f"{self.name}: {died}")

    @property
    def _inherits(self) -> bool:
        """Requests wait in a socket that outlives the process, so none is told to come back."""
        return self.settings.http_listen_fd is not None

    async def _listen(self, server: HttpServer) -> None:
        try:
            await server.start()
        except OSError as error:
            raise UnstartableError(error.strerror) from error
        self.health.live.append(server.healthy)

    async def _start(self, server: HttpServer) -> None:
        if self.pool is not None:
            await self._prepare_database(self.pool)
        for call in self.on_start:
            await _patiently(call)
        for part in (*self.parts, *self._upkeep()):
            self.running.append(part)
            await part.start()
            self.health.live.append(part.healthy)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        self.health.started = True
        if self._inherits:
            await self._until_ready()
            await self._listen(server)
        log.info("service.started", port=server.port)

    async def _until_ready(self) -> None:
        """Return once requests can be answered, or after a while: they are told why not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_READY_S):
                while self.health.unready():  # noqa: ASYNC110 - probes must be asked
                    await asyncio.sleep(0.02)

    def _upkeep(self) -> Sequence[Part]:
        """Return what every service with a database needs beside its own parts."""
        if self.pool is None:
            return ()
        return (
            Periodic("inbox", partial(forget_claims, self.pool), every_s=_UPKEEP_S),
            Periodic("letters", partial(forget_letters, self.pool), every_s=_UPKEEP_S),
        )

    async def _prepare_database(self, pool: Pool) -> None:
        # A pool keeps the loop of the moment it was made, before `serve` starts its own.
        pool._loop = asyncio.get_running_loop()  # type: ignore[attr-defined] # noqa: SLF001
        await pool

        async def apply() -> None:
            await migrate(pool, self.migrations, service=self.name)

        await _patiently(apply)

    async def _watch(self, starting: "asyncio.Task[None]", stop: asyncio.Event) -> str | None:
        """Return None when told to stop, or what has been dead for some seconds."""
        strikes = 0
        while not stop.is_set():
            if starting.done():
                starting.result()
            dead = self.health.dead()
            strikes = strikes + 1 if dead else 0
            if strikes >= _STRIKES:
                return dead[0]
            with suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_S):
                    await stop.wait()
        return None

    async def _stop(self, server: HttpServer, starting: "asyncio.Task[None]") -> None:
        """Say unready, finish what is in hand, then let go in reverse order."""
        self.health.stopping = True
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        for part in (server, *reversed(self.running)):
            try:
                async with asyncio.timeout(_STOP_S):
                    await part.stop()
            except Exception:
                log.exception("part.not_stopped", part=type(part).__name__)
        if self.pool is not None:
            try:
                async with asyncio.timeout(5):
                    await self.pool.close()
            except Exception:  # noqa: BLE001 - Postgres may be away; nothing more depends on it
                self.pool.terminate()
        log.info("service.stopped")


def serve(service: Service) -> None:
    """Run a service as this process: the last line of every `__main__`."""
    require_single_threaded()
    exporters.setup(
        service.name,
        traces_endpoint=service.settings.otel_exporter_otlp_traces_endpoint,
        log_level=service.settings.log_level,
    )
    try:
        uvloop.run(service.run())
    finally:
        exporters.flush()


async def _patiently(call: Callable[[], Awaitable[None]]) -> None:
    """Call until it works; only infrastructure that is away is waited for."""
    backoff = Backoff(first_s=0.2, limit_s=5.0)
    while True:
        try:
            await call()
        except Exception as error:
            if not is_infrastructure(error):
                raise
            log.warning("service.waits", error=type(error).__name__)
            await backoff.wait()
        else:
            return
