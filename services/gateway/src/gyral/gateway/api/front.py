"""What every protocol of the gateway does alike: who asks, of which model, and what it says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

import msgspec

from gyral.contracts import access
from gyral.contracts.deployment import Share
from gyral.gateway.api.answering import Answer, Answering, Asking
from gyral.gateway.api.asked import Asked, Expected
from gyral.gateway.api.questions import Question, TooLargeError, understand
from gyral.gateway.api.refusals import RefusedError
from gyral.gateway.api.shadows import Copy
from gyral.gateway.api.tensors import BadRequestError
from gyral.gateway.domain.routing import (
    NoLiveVersionError,
    Plan,
    RouteTable,
    choose,
)
from gyral.gateway.engine.batcher import Batcher, ModelFailedError, RuntimeAwayError
from gyral.gateway.engine.crowding import CrowdedError
from gyral.kit.access import AccessDenied, Caller, KeyRing
from gyral.kit.health import Health
from gyral.kit.journal import JournalBrokenError, JournalFullError
from gyral.kit.refusals import Refusal

_MAX_STICKY_BYTES = 256


class Addressed(msgspec.Struct, frozen=True, gc=False):
    """A model that was found for somebody who may ask it."""

    plan: Plan
    named: Share | None
    """The version that was asked for by name, when one was."""


class Said(msgspec.Struct, frozen=True, gc=False):
    """An answered question; its shadows begin when the answer is on its way."""

    question: Question
    asking: Asking
    answer: Answer
    copies: Sequence[Copy]


@dataclass(slots=True)
class Front:
    """Keys, routes and the load in hand, the same for each protocol."""

    keys: KeyRing
    table: RouteTable
    answering: Answering
    health: Health
    new_id: Callable[[], str]
    latest_us: Callable[[], int]
    """The latest event time that may be predicted now."""
    max_requests: int
    in_hand: int = 0

    def check_key(
        self, authorization: str | bytes | None, scope: access.Scope = access.Scope.INFER
    ) -> Caller:
        """Return who calls and has the scope.

        Raises:
            RefusedError: 503 while the gateway starts or stops.
            AccessDenied: the key will not do.
        """
        if not self.health.started or self.health.stopping:
            raise RefusedError(503, "the gateway is starting or stopping; ask again")
        return self.keys.check(authorization, scope)

    def find(self, model: str, version: int | None, caller: Caller) -> Addressed:
        """Return a model by its name.

        Raises:
            AccessDenied: the caller may not ask it.
            RefusedError: 404, no route leads to it or to this version.
        """
        caller.check_model(model)
        plan = self.table.get(model)
        if plan is None:
            raise RefusedError(404, f"{model[:80]}: expected a model with a route; found none")
        return Addressed(plan, _named(plan, version))

    def check_load(self) -> None:
        """Raise RefusedError 429 while more is in hand than may be."""
        if self.in_hand > self.max_requests:
            raise RefusedError(429, f"expected at most {self.max_requests} requests at once")

    def check_room(self, to: Addressed) -> None:
        """Raise RefusedError 429 when nobody who may be chosen has room for a request."""
        chosen = to.plan.live if to.named is None else (to.named,)
        batcher: Batcher | None = None
        for each in chosen:
            batcher = self.answering.fleet.batcher(to.plan.route, each, shadow=False)
            asleep = to.plan.route.dormant and not batcher.link.up
            if not batcher.crowd.full and not (asleep and batcher.crowd.full_asleep):
                return
        if batcher is not None:
            batcher.crowd.refused += 1
            raise RefusedError(
                429, f"{to.plan.route.model}: expected room for one more request; found none"
            )

    def expected(self, to: Addressed) -> Expected:
        """Return what a question to this model may and must bring."""
        return Expected(
            inputs=to.plan.known_inputs,
            order=to.plan.order if to.named is None else to.named.names,
            event_clock=to.plan.route.event_clock,
            latest_us=self.latest_us(),
        )

    async def ask(
        self, to: Addressed, asked: Asked, expected: Expected, sticky: bytes = b""
    ) -> Said:
        """Return the answer, once it is on the journal.

        Args:
            to: whom.
            asked: what.
            expected: what that may be.
            sticky: callers with the same key get the same version.

        Raises:
            RefusedError, BadRequestError and what else `refusals` turns into a status.
        """
        if len(sticky) > _MAX_STICKY_BYTES:
            raise RefusedError(
                400,
                f"x-sticky-key: expected at most {_MAX_STICKY_BYTES} bytes; found"
                f" {len(sticky)}",
            )
        question = understand(asked, expected)
        asking = Asking(to.plan, question, self.new_id())
        key = sticky.decode("latin-1") or question.first_entity_key or asking.request_id
        share = to.named or choose(to.plan, key)
        said = await self.answering.answer(asking, share, fixed=to.named is not None)
        return Said(question, asking, said, list(self.answering.copies(asking, said)))


class refusals:  # noqa: N801 - used as a function; one of contextlib's costs four times as much
    """Turn what can go wrong into a status."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Watch."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raise RefusedError instead of what is known to go wrong."""
        match error:
            case None:
                return
            case AccessDenied() | Refusal():
                raise RefusedError(error.status, error.message) from error
            case BadRequestError():
                raise RefusedError(400, str(error)) from error
            case TooLargeError():
                raise RefusedError(413, str(error)) from error
            case CrowdedError():
                raise RefusedError(429, str(error)) from error
            case (
                RuntimeAwayError()
                | NoLiveVersionError()
                | JournalFullError()
                | JournalBrokenError()
            ):
                raise RefusedError(503, str(error)) from error
            case ModelFailedError():
                raise RefusedError(500, f"the model gave no answer: {error}") from error


def _named(plan: Plan, version: int | None) -> Share | None:
    if version is None:
        return None
    share = plan.share_of(version)
    if share is None:
        known = ", ".join(str(each.version) for each in plan.route.shares)
        raise RefusedError(
            404, f"{plan.route.model}: expected one of the versions {known}; found {version}"
        )
    return share
