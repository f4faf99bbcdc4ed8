"""From a question to a logged answer: choose, ask, remember, and only then answer."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from gyral.contracts.deployment import Share
from gyral.contracts.inference import Role
from gyral.gateway.api.entries import entry
from gyral.gateway.api.questions import Question, features_for
from gyral.gateway.api.shadows import Copy, Shadows
from gyral.gateway.api.tensors import BadRequestError, Features
from gyral.gateway.domain.routing import Plan
from gyral.gateway.engine.batcher import ModelFailedError, RuntimeAwayError
from gyral.gateway.engine.crowding import CrowdedError
from gyral.gateway.engine.fleet import Fleet
from gyral.gateway.store.kinds import Kind
from gyral.kit.journal import Journal
from gyral.kit.segments import Entry
from gyral.kit.telemetry import get_log

log = get_log()
REFUSALS = (BadRequestError, CrowdedError, RuntimeAwayError, ModelFailedError)
"""Why a version gives no answer to one question."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a version may take."""

    request_s: float
    fallback_s: float


class Asking(msgspec.Struct, frozen=True, gc=False):
    """One question on its way through one route."""

    plan: Plan
    question: Question
    request_id: str


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What one version said, and how long it took."""

    share: Share
    features: Features
    probabilities: list[float]
    latency_us: int


@dataclass(frozen=True, slots=True)
class Answering:
    """Asks versions and remembers what they said."""

    fleet: Fleet
    journal: Journal
    shadows: Shadows
    patience: Patience
    now_us: Callable[[], int]

    async def answer(self, asking: Asking, share: Share, *, fixed: bool) -> Answer:
        """Return a version's answer once it is on the journal.

        Args:
            asking: the question, and the route it goes by.
            share: the version chosen.
            fixed: True when the caller named it, so that no other may stand in.

        Raises:
            BadRequestError: the version reads something the request does not bring.
            CrowdedError: it has too much in hand.
            RuntimeAwayError: neither it nor a stand-in answered in time.
            ModelFailedError: it was asked and cannot answer these rows.
            JournalFullError: the answer could not be remembered.
            JournalBrokenError: the disk refused it.
        """
        self.journal.check_room()
        features = features_for(asking.question, share)
        failure: str | None = None
        try:
            said = await self._ask(asking, share, features, self.patience.request_s)
        except (RuntimeAwayError, ModelFailedError) as error:
            stand_in = None if fixed else asking.plan.stand_in(share)
            if stand_in is None:
                raise
            failure = str(error)
            try:
                instead = features_for(asking.question, stand_in)
                said = await self._ask(asking, stand_in, instead, self.patience.fallback_s)
            except REFUSALS:
                await self._remember_failure(asking, share, features, failure)
                raise
        await self._remember(asking, said)
        if failure is not None:
            # Nobody saw that the chosen version failed; its failure counts all the same.
            await self._remember_failure(asking, share, features, failure)
        return said

    def copies(self, asking: Asking, said: Answer) -> Iterator[Copy]:
        """Reserve a copy of an answered question for each shadow of its route."""
        for share in asking.plan.shadows:
            if share.version != said.share.version:
                ask = _Shadowed(self, asking, share, said)
                copy = self.shadows.reserve(asking.plan.route.model, ask)
                if copy is not None:
                    yield copy

    async def shadow(self, asking: Asking, share: Share, said: Answer) -> None:
        """Ask a shadow version the same question; remember what it said, or why it did not."""
        features = said.features
        try:
            if share.inputs != said.share.inputs:
                features = Features([], {})
                features = features_for(asking.question, share)
            shadowed = await self._ask(
                asking, share, features, self.patience.request_s, shadow=True
            )
        except REFUSALS as error:
            await self._remember_failure(asking, share, features, str(error))
        else:
            await self._remember(asking, shadowed, Role.SHADOW)

    async def _ask(
        self,
        asking: Asking,
        share: Share,
        features: Features,
        timeout_s: float,
        *,
        shadow: bool = False,
    ) -> Answer:
        began = time.perf_counter_ns()
        batcher = self.fleet.batcher(asking.plan.route, share, shadow=shadow)
        probabilities = await batcher.ask(features.columns, asking.question.rows, timeout_s)
        return Answer(share, features, probabilities, (time.perf_counter_ns() - began) // 1000)

    async def _remember(self, asking: Asking, said: Answer, role: Role = Role.LIVE) -> None:
        now_us = self.now_us()
        payload = entry(
            asking.question,
            said.features,
            request_id=asking.request_id,
            model=asking.plan.route.model,
            version=said.share.version,
            role=role,
            epoch=asking.plan.route.epoch,
            answered_at_us=now_us,
            latency_us=said.latency_us,
            probabilities=said.probabilities,
        )
        kind = Kind.PREDICTION_LIVE if role is Role.LIVE else Kind.PREDICTION_SHADOW
        await self.journal.append(Entry(kind, asking.request_id, now_us, payload))

    async def _remember_failure(
        self, asking: Asking, share: Share, features: Features, why: str
    ) -> None:
        now_us = self.now_us()
        payload = entry(
            asking.question,
            features,
            request_id=asking.request_id,
            model=asking.plan.route.model,
            version=share.version,
            role=Role.SHADOW,
            epoch=asking.plan.route.epoch,
            answered_at_us=now_us,
            latency_us=0,
            probabilities=None,
            error=why,
        )
        log.warning(
            "version.failed", model=asking.plan.route.model, version=share.version, reason=why
        )
        await self.journal.append(
            Entry(Kind.PREDICTION_SHADOW, asking.request_id, now_us, payload)
        )


@dataclass(frozen=True, slots=True)
class _Shadowed:
    """A copy's work, held until it may begin."""

    answering: Answering
    asking: Asking
    share: Share
    said: Answer

    async def __call__(self) -> None:
        await self.answering.shadow(self.asking, self.share, self.said)
