"""Waits for the platform: a day measured and counted, each request come to something."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter
from typing import TypeVar

from gyral.client.answers import (
    Counted,
    Measured,
    Outcome,
    Projections,
    Request,
    Rollout,
    Route,
    Run,
    Verdict,
    Version,
)
from gyral.client.calls import POLL_S, Platform
from gyral.client.errors import ClientError
from gyral.client.replay.history import Closing, History, Move, Trigger
from gyral.client.replay.moments import moment, text
from gyral.client.replay.variants import Variant
from gyral.contracts.versions import ChampionChanged

T = TypeVar("T")
_LOOK_S = 0.05
_CHAMPIONS = ChampionChanged.topic.name
_ENDED = ("completed", "aborted", "rolled_back")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the platform may take over one thing before the replay gives up."""

    day_s: float = 180.0
    training_s: float = 1800.0


@dataclass(slots=True)
class Watcher:
    """Follows the models of a replay; its `history` grows as it waits."""

    platform: Platform
    models: Mapping[Variant, str]
    say: Callable[[str], None]
    patience: Patience = field(default_factory=Patience)
    history: History = field(default_factory=History)
    _seen: set[str] = field(default_factory=set)
    _under_way: dict[Variant, int] = field(default_factory=dict)
    _champions: dict[str, int] = field(default_factory=dict)
    """How many champions each model had when a rollout last began."""

    async def first_versions(self) -> None:
        """Return once the gateway has a route for every model.

        Raises:
            ClientError: a first training failed, or its version was rejected.
        """
        async with asyncio.TaskGroup() as tasks:
            for model in self.models.values():
                tasks.create_task(self._first_version(model))

    async def day(self, end_us: int) -> None:
        """Return once a day is measured and counted, and each new request came to something."""
        async with asyncio.TaskGroup() as tasks:
            for variant in self.models:
                tasks.create_task(self._day_of(variant, end_us))

    async def _day_of(self, variant: Variant, end_us: int) -> None:
        model = self.models[variant]
        measured, counted = await asyncio.gather(
            self._measured(model, end_us), self._counted(model, end_us)
        )
        await self._follow(variant, counted, end_us)
        fresh = [each for each in measured.requests if each.request_id not in self._seen]
        self._seen |= {each.request_id for each in fresh}
        for request in fresh:
            await self._settle(variant, request, perf_counter(), end_us)
        if fresh:
            counted = await self._counted(model, end_us)
        if counted.epoch is not None:
            await self._routed(model, counted.epoch)

    async def _measured(self, model: str, end_us: int) -> Measured:
        path, end = f"/v1/models/{model}/progress", moment(end_us)
        self.say(f"the monitor to measure {model}")
        return await self._poll(
            f"the monitor has measured {model} until {text(end_us)}",
            lambda wait_s: self.platform["monitor"].get(
                path, Measured, {"watermark": text(end_us), "wait_s": wait_s}
            ),
            lambda found: _reached(found.measured_until, end),
        )

    async def _counted(self, model: str, end_us: int) -> Counted:
        path, end = f"/v1/models/{model}/progress", moment(end_us)
        return await self._poll(
            f"the deployer has counted {model} until {text(end_us)}",
            lambda wait_s: self.platform["deployer"].get(
                path, Counted, {"watermark": text(end_us), "wait_s": wait_s}
            ),
            lambda found: _reached(found.watermark, end),
        )

    async def _follow(self, variant: Variant, counted: Counted, end_us: int) -> None:
        """Note how the rollout under way moved; when it ended, wait until all know."""
        version = self._under_way.get(variant)
        if version is None:
            return
        now = counted.rollout
        if now is not None and now.version == version:
            self._moved(variant, now, end_us)
            return
        ended = await self._rollout(self.models[variant], version)
        if ended.stage not in _ENDED:
            return
        self._moved(variant, ended, end_us)
        del self._under_way[variant]
        await self._settled(self.models[variant], ended)

    def _moved(self, variant: Variant, rollout: Rollout, end_us: int) -> None:
        stage = rollout.stage
        if stage == "canary":
            stage = f"canary {rollout.weight} %"
        latest = [
            move.stage
            for move in self.history.moves
            if (move.variant, move.version) == (variant, rollout.version)
        ]
        if latest[-1:] != [stage]:
            move = Move(variant, rollout.version, stage, moment(end_us), rollout.reason)
            self.history.moves.append(move)

    async def _settled(self, model: str, ended: Rollout) -> None:
        """Return once all know that a rollout ended, so the next day always starts alike."""
        wanted = self._champions.get(model, 0) + (ended.stage == "completed")
        await self._until(
            f"all know how {model}@{ended.version} was rolled out",
            lambda: self._crowned(model, wanted),
        )

    async def _crowned(self, model: str, champions: int) -> bool:
        """Tell whether trainer and monitor know so many champions, and no run is in flight."""
        if await self._known_champions(model) < champions:
            return False
        runs = await self.platform["trainer"].get(
            "/v1/runs", list[Run], {"model": model, "limit": 5}
        )
        return not any(run.in_flight for run in runs)

    async def _known_champions(self, model: str) -> int:
        shown = [
            await self.platform[service].get("/v1/projections", Projections)
            for service in ("trainer", "monitor")
        ]
        return min(topics[_CHAMPIONS].get(model, 0) for topics in shown)

    async def _settle(
        self, variant: Variant, request: Request, seen_at: float, end_us: int
    ) -> None:
        """Return once a request came to an end, or its version's rollout to a start."""
        model = self.models[variant]
        self.say(f"the training of {model} ({request.cause})")
        outcome = await self._poll(
            f"request {request.request_id} of {model} came to something",
            lambda wait_s: self.platform["trainer"].get(
                f"/v1/requests/{request.request_id}", Outcome, {"wait_s": wait_s}
            ),
            lambda found: found.outcome not in ("pending", "admitted"),
            self.patience.training_s,
        )
        if outcome.outcome != "succeeded" or outcome.run_id is None:
            self._note(variant, request, outcome.outcome, outcome)
            return
        verdict = await self._verdict(outcome.run_id)
        if verdict.state != "approved" or verdict.version is None:
            self._note(variant, request, "rejected", outcome, verdict)
            return
        self._note(variant, request, "approved", outcome, verdict)
        self.say(f"the rollout of {model}@{verdict.version} to start")
        rollout = await self._started(model, verdict.version)
        self._champions[model] = await self._known_champions(model)
        run = await self.platform["trainer"].get(f"/v1/runs/{outcome.run_id}", Run)
        if run.ended_at is not None and rollout.stage != "aborted":
            closing = Closing(outcome.run_id, run.ended_at, perf_counter() - seen_at)
            self.history.closings.append(closing)
        self._under_way[variant] = verdict.version
        self._moved(variant, rollout, end_us)

    def _note(
        self,
        variant: Variant,
        request: Request,
        word: str,
        outcome: Outcome,
        verdict: Verdict | None = None,
    ) -> None:
        reason = "; ".join(verdict.reasons) if verdict and verdict.reasons else outcome.reason
        self.history.triggers.append(
            Trigger(
                variant,
                request.request_id,
                request.as_of,
                request.cause,
                word,
                request.evidence,
                reason,
                outcome.run_id,
                verdict.version if verdict else None,
            )
        )

    async def _verdict(self, run_id: str) -> Verdict:
        return await self._poll(
            f"run {run_id} is judged",
            lambda wait_s: self.platform["registry"].get(
                f"/v1/runs/{run_id}/version", Verdict, {"wait_s": wait_s}
            ),
            lambda found: found.state != "pending",
        )

    async def _started(self, model: str, version: int) -> Rollout:
        found = await self._poll(
            f"the rollout of {model}@{version} started",
            lambda wait_s: self.platform["deployer"].find(
                f"/v1/models/{model}/rollouts/{version}", Rollout, {"wait_s": wait_s}
            ),
            lambda found: found is not None and found.stage != "warming",
        )
        if found is None:
            raise ClientError(f"{model}@{version}: expected a rollout; found none")
        return found

    async def _rollout(self, model: str, version: int) -> Rollout:
        path = f"/v1/models/{model}/rollouts/{version}"
        return await self.platform["deployer"].get(path, Rollout)

    async def _routed(self, model: str, epoch: int) -> Route | None:
        return await self._poll(
            f"the gateway follows epoch {epoch} of {model}",
            lambda wait_s: self.platform["gateway"].find(
                f"/v1/models/{model}/route", Route, {"epoch": epoch, "wait_s": wait_s}
            ),
            lambda found: found is not None and found.epoch >= epoch,
        )

    async def _first_version(self, model: str) -> None:
        self.say(f"the first version of {model}")

        async def look(wait_s: float) -> Route | None:
            await self._refuse_hopeless(model)
            return await self.platform["gateway"].find(
                f"/v1/models/{model}/route", Route, {"epoch": 1, "wait_s": min(wait_s, 2.0)}
            )

        await self._poll(
            f"the first version of {model} serves",
            look,
            lambda found: found is not None,
            self.patience.training_s,
        )
        await self._until(f"all know {model}'s champion", lambda: self._crowned(model, 1))

    async def _refuse_hopeless(self, model: str) -> None:
        runs = await self.platform["trainer"].get(
            "/v1/runs", list[Run], {"model": model, "limit": 5}
        )
        if runs and runs[0].state == "failed":
            raise ClientError(f"{model}: its first training failed: {runs[0].reason}")
        path = f"/v1/models/{model}/versions"
        versions = await self.platform["registry"].find(path, list[Version])
        if versions and all(version.state == "rejected" for version in versions):
            reasons = "; ".join(versions[-1].reasons)
            raise ClientError(f"{model}: its first version was rejected: {reasons}")

    async def _until(self, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
        """Return once something holds that no service can be asked to wait for."""

        async def look(_wait_s: float) -> bool:
            return await holds()

        await self._poll(what, look, bool)

    async def _poll(
        self,
        what: str,
        look: Callable[[float], Awaitable[T]],
        enough: Callable[[T], bool],
        timeout_s: float | None = None,
    ) -> T:
        """Ask, letting the service wait, until the answer is enough.

        Raises:
            ClientError: it never was.
        """
        limit_s = timeout_s or self.patience.day_s
        deadline = perf_counter() + limit_s
        while not enough(found := await look(POLL_S)):
            if perf_counter() > deadline:
                raise ClientError(
                    f"waited {limit_s:.0f} s until {what}; last seen {str(found)[:200]}: "
                    "see `gyral status` and `make logs`"
                )
            await asyncio.sleep(_LOOK_S)
        return found


def _reached(time: datetime | None, wanted: datetime) -> bool:
    return time is not None and time >= wanted
