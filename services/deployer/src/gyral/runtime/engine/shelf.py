"""The versions that can answer, by slot: those asked lately in memory, the others on disk."""

import ctypes
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gyral.kit.frames import Batch, Rows
from gyral.kit.telemetry import get_log, get_meter
from gyral.modelling.columns import Column, Columns
from gyral.modelling.features import Block
from gyral.runtime.engine.errors import DamagedModelError, UnusableModelError
from gyral.runtime.engine.predictor import Predictor

_TRIM_BYTES = 32 << 20
log = get_log()

_Cells: TypeAlias = "bytes | list[str | bool | None]"


class NotLoadedError(LookupError):
    """The slot holds nothing, or other bytes than those asked for."""


@dataclass(frozen=True, slots=True)
class Version:
    """What a slot answers with, wherever it is."""

    sha256: str
    """Digest of the model's bytes."""
    memory_bytes: int
    """What its predictor takes."""
    load: Callable[[], Predictor]
    """Reads it from the disk; raises DamagedModelError where that is no longer what it was.

    It was read once: whatever else is raised will pass.
    """


@dataclass(frozen=True, slots=True)
class _Awake:
    """A version in memory; that it is no other is known where both are kept together."""

    version: Version
    predictor: Predictor


class Shelf:
    """Keeps predictors within a budget of memory; who was not asked longest goes first.

    Read from the threads that answer, changed by the loader.
    """

    def __init__(self, *, memory_bytes: int) -> None:
        self._budget_bytes = memory_bytes
        self.loading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
        """Where predictors are made: one thread's memory leaves no holes in other heaps."""
        self._lock = threading.Lock()
        self._waking = threading.Lock()
        self._versions: dict[str, Version] = {}
        self._faults: dict[str, str] = {}
        self._awake: OrderedDict[str, _Awake] = OrderedDict()
        self._awake_bytes = 0
        self._freed_bytes = 0
        meter = get_meter()
        self._seconds = meter.create_histogram(
            "gyral.runtime.wake.seconds", "s", "Time to bring a version back into memory"
        )
        self._evicted = meter.create_counter(
            "gyral_runtime_evicted", description="Predictors that made room for others"
        )

    def put(self, slot: str, version: Version, predictor: Predictor) -> None:
        """Have a slot answer from now on."""
        with self._lock:
            gone = self._forget(slot)
            self._versions[slot] = version
            gone += self._keep(slot, version, predictor)
        gone.clear()
        self._give_back()

    def drop(self, slot: str) -> None:
        """Have a slot answer no more; batches under way end in peace."""
        with self._lock:
            gone = self._forget(slot)
        gone.clear()

    def awake(self, slot: str) -> bool:
        """True when the slot need not be waited for: it is in memory, or will not answer."""
        return slot in self._awake or slot not in self._versions

    def fault(self, slot: str) -> str | None:
        """Return why a slot that was put here cannot answer any more, or None."""
        return self._faults.get(slot)

    def answer(self, batch: Batch) -> bytes:
        """Return one little-endian float64 a row, for all requests of a batch in their order.

        A batch without requests asks whether the slot holds the bytes, and wakes nobody.

        Raises:
            NotLoadedError: the slot does not hold the bytes that the batch asks for, or cannot
                bring them back into memory now.
            PredictionError: they gave no usable answer.
        """
        if not batch.requests:
            with self._lock:
                self._held(batch.slot, batch.sha256)
            return b""
        predictor = self._predictor(batch.slot, batch.sha256)
        return predictor.predict(_columns_of(batch)).astype("<f8", copy=False).tobytes()

    def _predictor(self, slot: str, sha256: str) -> Predictor:
        with self._lock:
            version = self._held(slot, sha256)
            predictor = self._found(slot, version)
        return predictor or self._wake(slot, version)

    def _held(self, slot: str, sha256: str) -> Version:
        version = self._versions.get(slot)
        if version is None or version.sha256 != sha256:
            found = "nothing" if version is None else f"sha256 {version.sha256[:12]}"
            raise NotLoadedError(f"{slot}: expected sha256 {sha256[:12]}; found {found}")
        return version

    def _found(self, slot: str, version: Version) -> Predictor | None:
        awake = self._awake.get(slot)
        if awake is None or awake.version is not version:
            return None
        self._awake.move_to_end(slot)
        return awake.predictor

    def _wake(self, slot: str, version: Version) -> Predictor:
        with self._waking:
            with self._lock:
                predictor = self._found(slot, version)
            if predictor is not None:
                return predictor
            began = time.perf_counter()
            predictor = self._load(slot, version)
            gone: list[Predictor] = []
            with self._lock:
                if self._versions.get(slot) is version:
                    gone = self._keep(slot, version, predictor)
            gone.clear()
            self._give_back()
            self._seconds.record(time.perf_counter() - began)
            return predictor

    def _load(self, slot: str, version: Version) -> Predictor:
        """Return a version read from the disk; the message of an error names no file."""
        try:
            return version.load()
        except DamagedModelError as error:
            with self._lock:
                if self._versions.get(slot) is version:
                    self._forget(slot)
                    self._faults[slot] = str(error)
            log.error("version.lost", slot=slot, reason=str(error))  # noqa: TRY400 - no stack
            raise NotLoadedError(
                f"{slot}: expected the files that were loaded; found them damaged"
            ) from error
        except (UnusableModelError, OSError, MemoryError) as error:
            reason = str(error) or type(error).__name__
            log.error("version.not_woken", slot=slot, reason=reason)  # noqa: TRY400 - no stack
            raise NotLoadedError(
                f"{slot}: expected to bring it back into memory; found that it cannot be now"
            ) from error

    def _keep(self, slot: str, version: Version, predictor: Predictor) -> list[Predictor]:
        """Take a predictor in; return those that made room, to be let go without the lock."""
        gone = self._put_to_sleep(slot)
        self._awake[slot] = _Awake(version, predictor)
        self._awake_bytes += version.memory_bytes
        while self._awake_bytes > self._budget_bytes and len(self._awake) > 1:
            gone += self._put_to_sleep(next(iter(self._awake)))
            self._evicted.add(1)
        return gone

    def _give_back(self) -> None:
        """Return freed memory to the system: glibc keeps it, scattered, for itself."""
        if self._freed_bytes > _TRIM_BYTES:
            self._freed_bytes = 0
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
            if trim is not None:
                trim(0)

    def _put_to_sleep(self, slot: str) -> list[Predictor]:
        awake = self._awake.pop(slot, None)
        if awake is None:
            return []
        self._awake_bytes -= awake.version.memory_bytes
        self._freed_bytes += awake.version.memory_bytes
        return [awake.predictor]

    def _forget(self, slot: str) -> list[Predictor]:
        self._versions.pop(slot, None)
        self._faults.pop(slot, None)
        return self._put_to_sleep(slot)


def _columns_of(batch: Batch) -> Columns | Block:
    """Return the rows of all requests together."""
    blocks = [rows.columns for rows in batch.requests if isinstance(rows.columns, bytes)]
    if len(blocks) == len(batch.requests):
        cells = np.frombuffer(b"".join(blocks), dtype="<f8")
        return Block(batch.names, cells.reshape(-1, len(batch.names)))
    apart = [_apart(rows, len(batch.names)) for rows in batch.requests]
    return {name: _joined(apart, place) for place, name in enumerate(batch.names)}


def _apart(rows: Rows, width: int) -> Sequence[_Cells]:
    """Return a request's cells column by column, however they came."""
    if not isinstance(rows.columns, bytes):
        return rows.columns
    block = np.frombuffer(rows.columns, dtype="<f8").reshape(-1, width)
    return [block[:, place].tobytes() for place in range(width)]


def _joined(requests: Sequence[Sequence[_Cells]], place: int) -> Column:
    parts = [columns[place] for columns in requests]
    if all(isinstance(part, bytes) for part in parts):
        return np.frombuffer(b"".join(parts), dtype="<f8")  # type: ignore[arg-type]
    cells: list[object] = []
    for part in parts:
        cells.extend(array("d", part) if isinstance(part, bytes) else part)
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    return column
