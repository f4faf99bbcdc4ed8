"""A sink's handler, run on a batch until it is committed, proves not ours or cannot be.

A batch that cannot be is handled by halves: what is to blame ends up alone, and is parked.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeAlias, TypeVar

from gyral.kit.backoff import Backoff
from gyral.kit.batches import Batch, Slice
from gyral.kit.db import is_infrastructure
from gyral.kit.offsets import Fenced
from gyral.kit.reactions import LineStopped
from gyral.kit.telemetry import Sometimes, frames, get_log
from gyral.kit.tx import Begin, Tx

T = TypeVar("T", bound=Tx)
Handle: TypeAlias = Callable[[Batch[T]], Awaitable[None]]
Prepare: TypeAlias = Callable[[tuple[Slice, ...]], Awaitable[Handle[T]]]
Park: TypeAlias = Callable[[Batch[T], Exception], Awaitable[None]]
"""Commits one record that its handler cannot take where it is seen and may be replayed."""
_BREAKER = 10
"""Records parked in a row that stop the line: then the fault is the handler's."""
log = get_log()


@dataclass(frozen=True, slots=True)
class _Ahead(Generic[T]):
    """What handles these slices and none but these, made before their turn."""

    slices: tuple[Slice, ...]
    handle: Handle[T]


class Flusher(Generic[T]):
    """Repeats a batch: for `patience_s` while infrastructure is away, else `retries` times."""

    def __init__(
        self,
        group: str,
        begin: Begin[T],
        handle: Handle[T],
        prepare: Prepare[T] | None = None,
        park: Park[T] | None = None,
        *,
        retries: int,
        patience_s: float,
    ) -> None:
        self._group = group
        self._begin = begin
        self._handle = handle
        self._prepare = prepare
        self._park = park
        self._parked_in_a_row = 0
        self.progressed_s = time.monotonic()
        """When something was last committed: a batch may come in many pieces."""
        self._ahead: _Ahead[T] | None = None
        self._retries = retries
        self._patience_s = patience_s
        self._spans = Sometimes()

    async def prepare(self, slices: tuple[Slice, ...]) -> None:
        """Do ahead what can be done of a batch; its flush, and no other's, begins with that.

        What cannot be prepared the handler meets at its turn: there it is repeated or raised.
        """
        if self._prepare is None or not slices:
            return
        try:
            self._ahead = _Ahead(slices, await self._prepare(slices))
        except Exception as error:  # noqa: BLE001 - the handler does the same, and will raise it
            log.warning("batch.not_prepared", group=self._group, error=type(error).__name__)

    def _first(self, slices: tuple[Slice, ...]) -> Handle[T]:
        """Return what serves the first attempt; what other slices gave is dropped."""
        ahead, self._ahead = self._ahead, None
        return self._handle if ahead is None or ahead.slices != slices else ahead.handle

    async def flush(self, slices: tuple[Slice, ...]) -> None:
        """Return once the slices are committed, handled or, where nothing else helps, parked.

        Raises:
            Fenced: another process has them.
            LineStopped: too many records in a row would have been parked.
            Exception: the handler's own, after it was repeated, where nothing can be parked.
        """
        await self._settle(slices, self._first(slices), self._retries)

    async def _settle(self, slices: tuple[Slice, ...], first: Handle[T], retries: int) -> None:
        """Commit slices whole, or by halves until what is to blame is alone: that is parked."""
        alone = sum(len(part.records) for part in slices) == 1
        # Alone it has all its attempts: nothing is parked for a fault that passes.
        error = await self._repeat(
            slices, first, self._handle, self._retries if alone else retries
        )
        if error is None:
            self._parked_in_a_row = 0
        elif self._park is None:
            raise error
        elif alone:
            await self._park_alone(slices[0], self._park, error)
        else:
            for half in _halves(slices):
                await self._settle(half, self._handle, 0)

    async def _park_alone(self, part: Slice, park: Park[T], error: Exception) -> None:
        place = f"{part.topic}/{part.partition}/{part.records[0].offset}"
        if self._parked_in_a_row + 1 >= _BREAKER:
            raise LineStopped(
                f"{self._group}: {_BREAKER} records failed in a row, the last at {place}:"
                f" {type(error).__name__}"
            ) from error

        async def handle(batch: Batch[T]) -> None:
            await park(batch, error)

        failed = await self._repeat((part,), handle, handle, self._retries)
        if failed is not None:
            raise failed
        self._parked_in_a_row += 1
        log.error("record.parked", group=self._group, place=place, error=type(error).__name__)

    async def _repeat(
        self, slices: tuple[Slice, ...], first: Handle[T], then: Handle[T], retries: int
    ) -> Exception | None:
        """Return None once the slices are committed, or what a handler fails with each time.

        Raises:
            Fenced: another process has them.
            Exception: infrastructure was away for too long, or it failed after the commit.
        """
        backoff = Backoff(first_s=0.1, limit_s=10.0)
        waited_s, failures = 0.0, 0
        handle = first
        while True:
            batch = Batch(slices, self._group, self._begin)
            try:
                with self._spans.span(f"{self._group} sink", records=len(batch)):
                    await handle(batch)
                _require_committed(batch)
            except Fenced:
                raise
            except Exception as error:  # the kit's one consumer loop
                away = is_infrastructure(error)
                failures += not away
                if batch.committed or (away and waited_s > self._patience_s):
                    raise
                log.warning(
                    "batch.failed",
                    group=self._group,
                    failures=failures,
                    error=type(error).__name__,
                    stack=None if away else frames(error),
                )
                if failures > retries:
                    return error
            else:
                self.progressed_s = time.monotonic()
                return None
            handle = then
            waited_s += await backoff.wait()


def _require_committed(batch: Batch[T]) -> None:
    if not batch.committed:
        raise RuntimeError(
            f"{batch.sink}: expected the handler to enter batch.commit(); it returned"
        )


def _halves(slices: tuple[Slice, ...]) -> tuple[tuple[Slice, ...], tuple[Slice, ...]]:
    """Return the first half of the records and the second, each in order of its partitions."""
    left = sum(len(part.records) for part in slices) // 2
    first, second = [], []
    for part in slices:
        count = min(left, len(part.records))
        left -= count
        before, after = part.records[:count], part.records[count:]
        if before:
            first.append(replace(part, records=before))
        if after:
            stand = before[-1].offset + 1 if before else part.first_offset
            second.append(replace(part, records=after, first_offset=stand))
    return tuple(first), tuple(second)
