"""Requests of one tick, asked of the runtime together and answered one by one.

Who comes alone does not wait for a tick: after a batch of one the next request is sent at once.
"""

import asyncio
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gyral.contracts.deployment import Share
from gyral.gateway.domain.rows import MAX_ROWS, Columns
from gyral.gateway.engine.crowding import Crowd
from gyral.gateway.engine.link import Link
from gyral.kit.frames import Batch, Frame, Kind, Rows, batch_payload

_MAX_LOSSES = 3
"""Connections a request may see break before it is taken to be what breaks them."""
_NOT_LOADED_WAIT_S = 0.1
_LACKING_S = 1.0
"""How long others are preferred to a runtime that lacks the version."""
_LOOK_S = 0.05
"""How often deadlines are looked at: one timer for all costs less than one for each."""


class RuntimeAwayError(RuntimeError):
    """No runtime answered in time, or it does not hold the version."""


class ModelFailedError(RuntimeError):
    """The version was asked and gave no answer."""


@dataclass(slots=True)
class _Asked:
    rows: Rows
    future: "asyncio.Future[list[float]]"
    deadline: float
    came: float
    alone: bool = False
    """Sent by itself, since a batch that it was part of failed."""
    losses: int = 0


@dataclass(slots=True)
class Batcher:
    """One version's queue: joins what came during a tick, or while a batch was out."""

    link: Link
    share: Share
    hang_s: float
    """Silence after which the runtime counts as hanging: about all it was asked, not this."""
    crowd: Crowd = field(default_factory=Crowd)
    elsewhere: "Callable[[], Batcher | None]" = lambda: None
    """Where the version can be asked when its runtime here is away."""
    let_go: Callable[[], None] | None = None
    """Called once nobody waits here any more; None while a route names the version."""
    _waiting: deque[_Asked] = field(default_factory=deque)
    _lacking_until: float = 0.0
    _open_since: float = 0.0
    """When the runtime came, or held the version, last: waiting before is no queue."""
    _hindered: bool = True
    """It was away, or lacked the version, when it was asked last."""
    _quiet_since: float = 0.0
    """When the batch that is out left, or when the runtime was heard of since."""
    _under_way: list[_Asked] = field(default_factory=list)
    _looking: bool = False
    _out: bool = False
    _alone: bool = True
    """The last batch was a single request."""
    _scheduled: bool = False
    _why: str = "the runtime is away"
    _names: tuple[str, ...] = ()
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    """Asking for it is a system call each time (getpid), some of which a request would take."""

    def __post_init__(self) -> None:
        self._names = tuple(each.name for each in self.share.inputs)
        self.link.on_up(self._came_up)

    def close(self) -> None:
        """Let go of the link; what waits here runs into its deadlines."""
        self.link.forget(self._came_up)

    def answers_for(self, share: Share) -> bool:
        """Return whether a share of the same bytes reads the same inputs, and remember so."""
        if share is self.share:
            return True
        if share.inputs != self.share.inputs:
            return False
        self.share = share
        return True

    @property
    def idle(self) -> bool:
        """True when nobody waits and nothing is out."""
        return not self._out and all(asked.future.done() for asked in self._waiting)

    @property
    def lacking(self) -> bool:
        """True when the runtime said a moment ago that it does not hold the version."""
        return self._loop.time() < self._lacking_until

    def rest(self) -> None:
        """Have it let go when its last caller has gone and no route names it."""
        if self.let_go is not None and self.idle:
            let_go, self.let_go = self.let_go, None
            let_go()

    async def ask(self, columns: Columns, rows: int, within_s: float) -> list[float]:
        """Return the probability of each row.

        Args:
            columns: the share's inputs in their order, each of `rows` cells, or all numbers.
            rows: how many.
            within_s: how long the answer is wanted.

        Raises:
            CrowdedError: too much is in hand.
            RuntimeAwayError: it did not come in time.
            ModelFailedError: the version cannot answer these rows.
        """
        self.crowd.enter(rows)
        came = self._loop.time()
        future = self._loop.create_future()
        asked = _Asked(Rows(rows, columns), future, came + within_s, came)
        try:
            self._waiting.append(asked)
            self._schedule()
            self._watch()
            return await asked.future
        finally:
            self.crowd.leave(rows)
            self.rest()

    def _watch(self) -> None:
        if not self._looking:
            self._looking = True
            self._loop.call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        """Give up what is too late or hangs, and look again while there is anything."""
        now = self._loop.time()
        open_ = [
            asked for asked in (*self._under_way, *self._waiting) if not asked.future.done()
        ]
        for asked in open_:
            if asked.deadline <= now:
                away = RuntimeAwayError(f"version {self.share.version}: {self._why}")
                asked.future.set_exception(away)
        if not self.link.up:
            self._move()
        if self._out and self._quiet_since + self.hang_s <= now:
            self._unanswered()
        self._looking = bool(open_) or self._out
        if self._looking:
            self._loop.call_later(_LOOK_S, self._look)

    def _came_up(self) -> None:
        self._hindered = True
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled and not self._out and self.link.up:
            if self._alone:
                self._send()
                return
            self._scheduled = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._scheduled = False
        batch = self._next_batch()
        if not batch:
            return
        self._out = True
        self._alone = len(batch) == 1
        self._under_way = batch
        if not self.lacking:
            self._why = "the runtime did not answer in time"
        asks = Batch(
            self.share.slot, self.share.sha256, self._names, [asked.rows for asked in batch]
        )
        began = self._quiet_since = self._loop.time()
        if self._hindered:
            self._open_since, self._hindered = began, False
        open_since = self._open_since

        def answered(frame: Frame | None) -> None:
            if frame is not None and frame.kind is Kind.PROBABILITIES:
                rows = sum(asked.rows.count for asked in batch)
                self.crowd.took(rows, self._loop.time() - began)
                oldest = began - max(batch[0].came, open_since)
                self.crowd.left_queue(
                    len(batch), oldest, began - max(batch[-1].came, open_since)
                )
            self._out = False
            self._under_way = []
            self._react(batch, frame)
            self.rest()

        try:
            self.link.run(batch_payload(asks), answered)
        except ValueError as error:  # together they are too long: each goes by itself
            answered(Frame(0, Kind.FAILED, str(error).encode()))

    def _unanswered(self) -> None:
        """Give the connection up if nothing came over it; else this version is being woken."""
        if self.link.heard_at <= self._quiet_since:
            self.link.reset()
            return
        self._quiet_since = self.link.heard_at
        self._move()

    def _next_batch(self) -> list[_Asked]:
        batch: list[_Asked] = []
        total = 0
        while self._waiting:
            asked = self._waiting[0]
            if asked.future.done():  # late, or its client went away
                self._waiting.popleft()
                continue
            if batch and (asked.alone or total + asked.rows.count > MAX_ROWS):
                break
            batch.append(self._waiting.popleft())
            total += asked.rows.count
            if asked.alone:
                break
        return batch

    def _react(self, batch: list[_Asked], frame: Frame | None) -> None:
        if frame is None:
            self._lost(batch)
        elif frame.kind is Kind.PROBABILITIES:
            _share_out(batch, frame.payload)
        elif frame.kind is Kind.NOT_LOADED:
            self._why = frame.payload.decode("utf-8", "replace")
            self._hindered = True
            self._lacking_until = self._loop.time() + _LACKING_S
            self._waiting.extendleft(reversed(batch))
            self._loop.call_later(_NOT_LOADED_WAIT_S, self._ask_again)
            return
        else:
            self._failed(batch, frame.payload.decode("utf-8", "replace"))
        self._schedule()

    def _lost(self, batch: list[_Asked]) -> None:
        """Ask again when the runtime is back: computing is free of effects; but one by one."""
        self._why = "the runtime is away"
        self._hindered = True
        for asked in reversed(batch):
            asked.losses += 1
            asked.alone = True
            if asked.losses < _MAX_LOSSES:
                self._waiting.appendleft(asked)
            elif not asked.future.done():
                asked.future.set_exception(
                    ModelFailedError(
                        f"the runtime broke off {asked.losses} times at these rows"
                    )
                )
        self._move()

    def _ask_again(self) -> None:
        """Ask where the version may be loaded by now."""
        self._move()
        self._schedule()

    def _move(self) -> None:
        """Hand all that waits to another runtime, if one is there that can be asked."""
        other = self.elsewhere() if self._waiting else None
        if other is not None:
            other.take_over(self._waiting)
            self._waiting = deque()

    def take_over(self, waiting: Iterable[_Asked]) -> None:
        """Answer what another runtime did not; it waited long enough to be the next."""
        now = self._loop.time()
        for asked in reversed(list(waiting)):
            asked.came = now  # what it waited there says nothing of the queue here
            self._waiting.appendleft(asked)
        self._schedule()
        self._watch()

    def _failed(self, batch: list[_Asked], why: str) -> None:
        if len(batch) > 1:
            # Whose rows it was is unknown: each gets its own answer or its own failure.
            for asked in reversed(batch):
                asked.alone = True
                self._waiting.appendleft(asked)
            return
        for asked in batch:
            if not asked.future.done():
                asked.future.set_exception(ModelFailedError(why))


def _share_out(batch: list[_Asked], payload: bytes) -> None:
    expected = sum(asked.rows.count for asked in batch)
    probabilities = array("d", payload[: len(payload) // 8 * 8]).tolist()
    start = 0
    for asked in batch:
        end = start + asked.rows.count
        if not asked.future.done():
            if len(probabilities) == expected:
                asked.future.set_result(probabilities[start:end])
            else:
                asked.future.set_exception(
                    ModelFailedError(
                        f"expected {expected} probabilities, found {len(probabilities)}"
                    )
                )
        start = end
