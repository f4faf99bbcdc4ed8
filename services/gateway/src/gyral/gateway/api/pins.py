"""How an operator takes a version back without deployer, Kafka or Postgres."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from gyral.contracts.access import Scope
from gyral.contracts.deployment import RoutePinned
from gyral.contracts.names import Reason, Uuid, Version
from gyral.gateway.domain.pins import NoPreviousError, Pins, pin, previous
from gyral.gateway.domain.routing import Plan, RouteTable
from gyral.gateway.store.pins import PinFiles
from gyral.kit.access import Caller
from gyral.kit.http import read_model, scope
from gyral.kit.refusals import Refusal
from gyral.kit.telemetry import get_log

log = get_log()


class PinRequest(BaseModel):
    """Which version is to answer alone, and why."""

    model_config = ConfigDict(extra="forbid")

    pin_id: Uuid
    version: Version
    reason: Reason


@dataclass(frozen=True, slots=True)
class Pinning:
    """Makes pins and tells of them."""

    table: RouteTable
    pins: Pins
    files: PinFiles
    made: Sequence[Callable[[RoutePinned], None]]
    """Called, in this order, with each pin once it is on disk."""
    ready: Callable[[], str | None]
    """Answers None once the routes are known."""
    now: Callable[[], datetime]
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def pin(self, model: str, asked: PinRequest, actor: str) -> RoutePinned:
        """Have the previous champion answer alone from the next request on; kept on disk first.

        The same version again changes nothing.

        Raises:
            Refusal: 404 no such model, 409 another version than its previous champion, 503 the
                disk does not take it, or the routes are still being read.
        """
        async with self._one_at_a_time:
            known = self.pins.get(model)
            if known is not None and known.route.shares[0].version == asked.version:
                return known
            made = self._made(model, asked, actor)
            try:
                await asyncio.to_thread(self.files.keep, made)
            except OSError as error:
                raise Refusal(
                    503, "disk", f"pin: expected to write; found {error.strerror}"
                ) from error
            for take_effect in self.made:
                take_effect(made)
        log.warning("route.pinned", model=model, version=asked.version, actor=actor)
        return made

    def state(self, model: str) -> dict[str, object]:
        """Return the pin that holds, or what one would do now.

        Raises:
            Refusal: 404 no such model, 409 there is no previous champion to answer.
        """
        known = self.pins.get(model)
        if known is not None:
            return described(known)
        plan = self._plan(model)
        try:
            version = previous(plan.route).version
        except NoPreviousError as error:
            raise Refusal(HTTPStatus.CONFLICT, "no_previous", str(error)) from error
        newest = max(share.version for share in plan.route.shares)
        return {
            "model": model,
            "epoch": plan.route.epoch,
            "version": version,
            "instead_of": newest,
            "pin_id": None,
        }

    def _plan(self, model: str) -> Plan:
        if waits := self.ready():
            raise Refusal(503, "starting", waits, retry_after_s=1)
        plan = self.table.get(model)
        if plan is None:
            raise Refusal(
                404,
                "unknown_model",
                f"{model[:80]}: expected a model with a route; found none",
            )
        return plan

    def _made(self, model: str, asked: PinRequest, actor: str) -> RoutePinned:
        plan = self._plan(model)
        try:
            made = pin(
                plan.route,
                pin_id=asked.pin_id,
                actor=actor,
                reason=asked.reason,
                now=self.now(),
            )
        except NoPreviousError as error:
            raise Refusal(HTTPStatus.CONFLICT, "no_previous", str(error)) from error
        found = made.route.shares[0].version
        if found != asked.version:
            raise Refusal(
                HTTPStatus.CONFLICT,
                "not_the_previous",
                f"{model}: expected version {found}, the previous champion at epoch "
                f"{plan.route.epoch}; found {asked.version}",
                field="version",
            )
        return made


def described(pinned: RoutePinned) -> dict[str, object]:
    """Return what is told of a pin."""
    return {
        "model": pinned.key,
        "epoch": pinned.route.epoch,
        "version": pinned.route.shares[0].version,
        "pin_id": pinned.pin_id,
        "actor": pinned.actor,
        "reason": pinned.reason,
        "pinned_at": pinned.pinned_at.isoformat(),
    }


def create_pin_router(pinning: Pinning) -> APIRouter:
    """Return the gateway's routes for emergencies: for operators alone."""
    router = APIRouter(prefix="/v1/models/{model}")

    @router.post("/pin")
    async def pinned(
        model: str, request: Request, caller: Annotated[Caller, scope(Scope.OPERATE)]
    ) -> dict[str, object]:
        """Have the previous champion answer alone, whatever Kafka brings, until adopted."""
        asked = await read_model(request, PinRequest, max_bytes=1 << 12)
        return described(await pinning.pin(model, asked, caller.name))

    @router.get("/pin")
    async def shown(
        model: str, _caller: Annotated[Caller, scope(Scope.OPERATE)]
    ) -> dict[str, object]:
        """Return the pin that holds, or what one would do now."""
        return pinning.state(model)

    return router
