"""Keeps one runtime's process up: found or started, watched, started anew, ended."""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from gyral.deployer.engine import launcher
from gyral.deployer.engine.backend import Flavour, Member
from gyral.deployer.engine.holding import Held, holder
from gyral.kit.backoff import Backoff
from gyral.kit.telemetry import get_log

_STOP_S = 30.0
"""How long a runtime may take to end; longer than its parts may."""
_STEADY_S = 10.0
_LARGEST_LOG_BYTES = 64 << 20
_PROBE_S = 5.0
_START_S = 600.0
"""How long a runtime may take to load what it held."""
_CLOSE = {"connection": "close"}
"""A connection that is kept would hold up the runtime's end."""
_STRIKES = 6
"""Probes in a row that a live runtime may leave unanswered."""
log = get_log()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one member is made by."""

    name: str
    folder: Path
    data: str
    environment: Mapping[str, str]
    flavour: Flavour
    digest: str
    """Of all that it is told; a member made by another is renewed."""


class Keeper:
    """One member, for as long as it is wanted."""

    def __init__(
        self,
        recipe: Recipe,
        turn: asyncio.Lock,
        changed: Callable[[], None],
        after: asyncio.Event | None = None,
    ) -> None:
        """Name the member; `after` is the end of an earlier keeper of its folder."""
        self.name = recipe.name
        self.ready = False
        self.ending = False
        self.ended = asyncio.Event()
        self._recipe = recipe
        self._lock = recipe.folder / "lock"
        self._turn = turn
        self._changed = changed
        self._after = after
        self._port = 0
        self._came_up = asyncio.Event()
        self._launching: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @staticmethod
    def alive(folder: Path) -> bool:
        """True while a process has the folder."""
        return holder(folder / "lock") is not None

    @property
    def member(self) -> Member:
        """The member as it is now."""
        control = f"http://127.0.0.1:{self._port}"
        recipe = self._recipe
        return Member(self.name, control, recipe.data, self.ready, recipe.flavour)

    def computes(self, flavour: Flavour) -> bool:
        """True when its runtime is made to compute this."""
        return self._recipe.flavour is flavour

    @property
    def broken(self) -> bool:
        """True when it is looked after no more though it should be."""
        return self._task is not None and self._task.done() and not self.ending

    def begin(self) -> None:
        """Look after the member from now on."""
        self._task = asyncio.create_task(self._run(), name=f"runtime {self.name}")

    def end(self) -> None:
        """Have the member end; `ended` tells when it has."""
        self.ending = True
        self.ready = False
        keeping, self._task = self._task, asyncio.create_task(self._finish())
        if keeping is not None:
            keeping.cancel()

    async def let_go(self) -> None:
        """Look after the member no more; it goes on."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._launched()

    async def _run(self) -> None:
        """Find or start the process, again and again."""
        if self._after is not None:
            await self._after.wait()
        backoff = Backoff(first_s=0.1, limit_s=30.0)
        while True:
            began = time.monotonic()
            try:
                held = Held.of(self._lock)
                if held is not None and self._told_otherwise():
                    await self._renew(held)
                    continue
                if held is None:
                    await self._launch()
                    held = Held.of(self._lock)
            except OSError as error:
                log.warning("runtime.not_started", name=self.name, error=str(error))
                held = None
            if held is not None:
                await self._watch(held)
                log.warning("runtime.ended", name=self.name)
            if time.monotonic() - began > _STEADY_S:
                backoff.reset()
            await backoff.wait()

    def _told_otherwise(self) -> bool:
        try:
            made = (self._recipe.folder / "made").read_text(encoding="ascii")
        except FileNotFoundError:
            return True
        return made != self._recipe.digest

    async def _renew(self, held: Held) -> None:
        """Have a member end that was told otherwise, and return once its successor is up.

        One after the other: the others of its group answer meanwhile.
        """
        async with self._turn:
            log.info("runtime.renewed", name=self.name)
            await _stop(held)
            await self._launch()
            again = Held.of(self._lock)
            if again is not None:
                watching = asyncio.create_task(self._watch(again))
                up = asyncio.create_task(self._came_up.wait())
                try:
                    await asyncio.wait({watching, up}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in (watching, up):
                        task.cancel()
                    await asyncio.gather(watching, up, return_exceptions=True)

    async def _launch(self) -> None:
        """Start the process; it is found by its lock from now on.

        Who ends the member waits for it: what is half started would be found by nobody.
        """
        self._launching = asyncio.create_task(self._start())
        await asyncio.shield(self._launching)

    async def _launched(self) -> None:
        """Return once nothing is half started."""
        if self._launching is not None:
            await asyncio.wait({self._launching})

    async def _start(self) -> None:
        folder = self._recipe.folder
        (folder / "state").mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        (folder / "flavour").write_text(self._recipe.flavour, encoding="ascii")
        (folder / "made").write_text(self._recipe.digest, encoding="ascii")
        output = folder / "runtime.log"
        if output.exists() and output.stat().st_size > _LARGEST_LOG_BYTES:
            output.replace(folder / "runtime.log.1")
        with (
            socket.create_server(("127.0.0.1", 0), backlog=64) as listener,
            output.open("ab") as said,
        ):
            started = await asyncio.create_subprocess_exec(
                sys.executable, "-S", "-E", launcher.__file__, str(folder),
                sys.executable, "-m", "gyral.runtime",
                stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said,
                env={**self._recipe.environment, "HTTP_LISTEN_FD": str(listener.fileno())},
                pass_fds=[listener.fileno()],
            )  # fmt: skip
            status = await started.wait()
        log.info("runtime.started", name=self.name, status=status)

    async def _watch(self, held: Held) -> None:
        """Return once the process has ended; kill it should it hang."""
        probing = asyncio.create_task(self._probe(held), name=f"probe {self.name}")
        try:
            await held.ended()
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
            held.close()
            was, self.ready = self.ready, False
            self._came_up.clear()
            if was:
                self._changed()

    def _told_port(self) -> int:
        with suppress(FileNotFoundError, ValueError):
            return int((self._recipe.folder / "port").read_text(encoding="ascii"))
        return 0

    async def _probe(self, held: Held) -> None:
        """Tell when the process is up; kill it when it answers no more."""
        async with httpx.AsyncClient(trust_env=False, headers=_CLOSE) as client:
            with suppress(TimeoutError):
                async with asyncio.timeout(_START_S):
                    await self._until_ready(client)
            strikes = 0 if self.ready else _STRIKES
            while strikes < _STRIKES:
                await asyncio.sleep(_PROBE_S)
                alive = await _answers(client, f"{self.member.control}/health/live", _PROBE_S)
                strikes = 0 if alive else strikes + 1
        log.error("runtime.hangs", name=self.name)
        held.kill()

    async def _until_ready(self, client: httpx.AsyncClient) -> None:
        """Return once the process answers; where it listens it says before it is one."""
        backoff = Backoff(first_s=0.05, limit_s=1.0)
        self._port = self._told_port()
        while not await _answers(client, f"{self.member.control}/health/ready", 60.0):
            await backoff.wait()
            self._port = self._told_port()
        self.ready = True
        self._came_up.set()
        self._changed()

    async def _finish(self) -> None:
        try:
            if self._after is not None:
                await self._after.wait()
            await self._launched()
            held = Held.of(self._lock)
            if held is not None:
                await _stop(held)
        finally:
            self.ended.set()


async def _stop(held: Held) -> None:
    """Ask a process to end, and end it when it takes too long."""
    try:
        held.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_S):
                await held.ended()
        except TimeoutError:
            held.kill()
            await held.ended()
    finally:
        held.close()


async def _answers(client: httpx.AsyncClient, url: str, timeout_s: float) -> bool:
    try:
        answer = await client.get(url, timeout=timeout_s)
    except httpx.HTTPError:
        return False
    return answer.is_success
