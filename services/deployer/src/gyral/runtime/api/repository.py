"""Loading and unloading: a version is fetched, checked and tried out before it may answer."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from gyral.kit.blobs import Blobs, CorruptBlob
from gyral.kit.telemetry import get_log
from gyral.runtime.domain import (
    Files,
    Flavour,
    Held,
    RefusedVersionError,
    State,
    admit,
    check_format,
)
from gyral.runtime.engine import DamagedModelError, Predictor, UnusableModelError
from gyral.runtime.engine.shelf import Shelf, Version
from gyral.runtime.engine.trial import try_out
from gyral.runtime.store import Cache, DamagedCacheError, UnreadableCacheError

log = get_log()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one version may be and take."""

    max_models: int
    trial_timeout_s: float
    trial_memory_bytes: int
    flavour: Flavour


@dataclass(slots=True)
class Repository:
    """The slots of this runtime; one change at a time."""

    blobs: Blobs
    cache: Cache
    shelf: Shelf
    limits: Limits
    _held: dict[str, Held] = field(default_factory=dict)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    def index(self) -> Iterable[tuple[str, Held]]:
        """Return every slot that was asked for, in order of its name."""
        return sorted(self._slots().items())

    def ready(self, slot: str) -> bool:
        """True when the slot can answer."""
        held = self._slots().get(slot)
        return held is not None and held.state is State.READY

    async def restore(self) -> None:
        """Load what the cache says was loaded; files that changed on the disk are refused."""
        for slot, files in (await asyncio.to_thread(self.cache.slots)).items():
            try:
                check_format(slot, files, self.limits.flavour)
                await self._take_up(slot, files)
            except (
                RefusedVersionError,
                UnusableModelError,
                UnreadableCacheError,
            ) as error:
                self._held[slot] = Held(files, State.UNAVAILABLE, str(error))
                log.error("version.not_restored", slot=slot, reason=str(error))  # noqa: TRY400 - no stack

    async def load(self, slot: str, files: Files) -> None:
        """Return once the slot answers with these files; again is harmless.

        Raises:
            RefusedVersionError: they will never do; the message says which check they failed.
            FullError: there is no room; the slot stays as it is.
            OSError: the object store is away.
        """
        check_format(slot, files, self.limits.flavour)
        async with self._one_at_a_time:
            slots = self._slots()
            if not admit(slots, slot, files, max_models=self.limits.max_models):
                return
            before = slots.get(slot)
            self._held[slot] = Held(files, State.LOADING)
            try:
                await self._load(slot, files)
            except (RefusedVersionError, OSError) as error:
                self._held[slot] = Held(files, State.UNAVAILABLE, str(error))
                log.warning("version.refused", slot=slot, reason=str(error))
                raise
            finally:
                if self._held[slot].state is State.LOADING:  # cancelled
                    self._held[slot] = before or replace(
                        self._held[slot], state=State.UNAVAILABLE
                    )

    async def unload(self, slot: str) -> None:
        """Have the slot answer no more; one that is not held is no error."""
        async with self._one_at_a_time:
            if self._held.pop(slot, None) is None:
                return
            self.shelf.drop(slot)
            await asyncio.to_thread(self.cache.keep, self._ready_slots())
            log.info("version.unloaded", slot=slot)

    async def _load(self, slot: str, files: Files) -> None:
        try:
            for ref in files.by_name.values():
                if not await asyncio.to_thread(self.cache.has, ref):
                    await self.blobs.get_file(ref, self.cache.path(ref))
            await self._try_out(files)
            await self._take_up(slot, files)
        except FileNotFoundError as error:
            raise RefusedVersionError(str(error)) from error
        except (CorruptBlob, UnusableModelError) as error:
            raise RefusedVersionError(f"{slot}: {error}") from error
        await asyncio.to_thread(self.cache.keep, self._ready_slots())
        log.info("version.loaded", slot=slot, sha256=files.model.sha256)

    async def _try_out(self, files: Files) -> None:
        with tempfile.TemporaryDirectory(prefix="gyral-trial-") as folder:
            for name, ref in files.by_name.items():
                await asyncio.to_thread(
                    shutil.copyfile, self.cache.path(ref), Path(folder, name)
                )
            fault = await try_out(
                Path(folder),
                memory_bytes=self.limits.trial_memory_bytes,
                timeout_s=self.limits.trial_timeout_s,
            )
        if fault is not None:
            raise RefusedVersionError(fault)

    async def _take_up(self, slot: str, files: Files) -> None:
        load = partial(self._predictor, files)
        loop = asyncio.get_running_loop()
        predictor = await loop.run_in_executor(self.shelf.loading, load)
        version = Version(files.model.sha256, predictor.memory_bytes, load)
        self.shelf.put(slot, version, predictor)
        self._held[slot] = Held(files, State.READY)

    def _predictor(self, files: Files) -> Predictor:
        """Return what a version's cached files make, checked each time they are read."""
        try:
            model, manifest = self.cache.read(files.model), self.cache.read(files.manifest)
            code = None if files.code is None else self.cache.read(files.code)
        except DamagedCacheError as error:
            raise DamagedModelError(str(error)) from error
        predictor = Predictor.of(manifest, model, code)
        described = predictor.manifest
        model_name = next(name for name in files.by_name if name.startswith("model."))
        for expected, found, name in (
            (files.model.sha256, described.model_file.sha256, model_name),
            (files.code and files.code.sha256, described.code_sha256, "code.zip"),
        ):
            if found != expected:
                raise UnusableModelError(
                    f"manifest.json: expected sha256 {expected}, as of {name}; found {found}"
                )
        return predictor

    def _slots(self) -> dict[str, Held]:
        """Return every slot as it is now: one may have proved damaged when it was woken."""
        found = {}
        for slot, held in self._held.items():
            fault = self.shelf.fault(slot)
            found[slot] = held if fault is None else Held(held.files, State.UNAVAILABLE, fault)
        return found

    def _ready_slots(self) -> dict[str, Files]:
        return {
            slot: held.files
            for slot, held in self._slots().items()
            if held.state is State.READY
        }
