"""A sink's handler, run on a batch until it is committed, proves not ours or cannot be."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from gyral.kit.backoff import Backoff
from gyral.kit.batches import Batch, Slice
from gyral.kit.db import is_infrastructure
from gyral.kit.offsets import Fenced
from gyral.kit.telemetry import Sometimes, get_log
from gyral.kit.tx import Begin, Tx

T = TypeVar("T", bound=Tx)
Handle: TypeAlias = Callable[[Batch[T]], Awaitable[None]]
Prepare: TypeAlias = Callable[[tuple[Slice, ...]], Awaitable[Handle[T]]]
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
        prepare: Prepare[T] | None,
        *,
        retries: int,
        patience_s: float,
    ) -> None:
        self._group = group
        self._begin = begin
        self._handle = handle
        self._prepare = prepare
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
        """Return once the slices are committed.

        Raises:
            Fenced: another process has them.
            Exception: the handler's own, after it was repeated.
        """
        handle = self._first(slices)
        backoff = Backoff(first_s=0.1, limit_s=10.0)
        waited_s, failures = 0.0, 0
        while True:
            batch = Batch(slices, self._group, self._begin)
            try:
                with self._spans.span(f"{self._group} sink", records=len(batch)):
                    await handle(batch)
                _require_committed(batch)
            except Fenced:
                raise
            except Exception as error:  # the kit's one consumer loop
                failures += not is_infrastructure(error)
                if batch.committed or waited_s > self._patience_s or failures > self._retries:
                    raise
                log.warning(
                    "batch.failed",
                    group=self._group,
                    failures=failures,
                    error=type(error).__name__,
                    exc_info=None if is_infrastructure(error) else error,
                )
            else:
                return
            handle = self._handle
            waited_s += await backoff.wait()


def _require_committed(batch: Batch[T]) -> None:
    if not batch.committed:
        raise RuntimeError(
            f"{batch.sink}: expected the handler to enter batch.commit(); it returned"
        )
