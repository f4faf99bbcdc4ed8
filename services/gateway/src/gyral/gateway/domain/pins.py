"""An operator's pin: which version answers without the deployer, and over which epochs."""

import uuid
from datetime import datetime

from gyral.contracts.deployment import RouteChanged, RoutePinned, Share

CLAIMED_EPOCHS = 1000
"""How far beyond its route's epoch a pin lies.

Whatever the deployer had decided before it heard of the pin, and Kafka brings late, stays below
it: a rollout takes some ten epochs. The deployer's answer to the pin lies above it.
"""


class NoPreviousError(LookupError):
    """The route names no version that answered before the newest one."""


def previous(route: RouteChanged) -> Share:
    """Return the share of the version that answered before the newest one.

    Versions are numbered in the order of their training, and a candidate is newer than the
    champion it is compared with.

    Raises:
        NoPreviousError: there is no other version, or the others answer nobody.
    """
    oldest = min(route.shares, key=lambda share: share.version)
    if len(route.shares) == 1 or oldest.shadow:
        raise NoPreviousError(
            f"{route.model}: expected a route with a previous champion; found version "
            f"{oldest.version} alone at epoch {route.epoch}"
        )
    return oldest


def pin(
    route: RouteChanged, *, pin_id: str, actor: str, reason: str, now: datetime
) -> RoutePinned:
    """Return the pin that has the previous champion answer alone.

    Raises:
        NoPreviousError: the route names none.
    """
    alone = previous(route).model_copy(update={"weight": 100})
    pinned = route.model_copy(
        update={"epoch": route.epoch + CLAIMED_EPOCHS, "shares": (alone,)}
    )
    return RoutePinned(pin_id=pin_id, route=pinned, actor=actor, reason=reason, pinned_at=now)


def event_id(pinned: RoutePinned) -> str:
    """Return the id under which one gateway's pin is told, in each of its processes the same.

    Gateways that were at different epochs make different pins of one order, and one order may
    be about several models: each must be heard.
    """
    told = f"{pinned.key}/{pinned.route.epoch}"
    return str(uuid.uuid5(uuid.UUID(pinned.pin_id), told))


class Pins:
    """The pins that hold now, at most one a model."""

    def __init__(self) -> None:
        self._pins: dict[str, RoutePinned] = {}

    def get(self, model: str) -> RoutePinned | None:
        """Return a model's pin, or None."""
        return self._pins.get(model)

    def put(self, pinned: RoutePinned) -> RoutePinned | None:
        """Let a pin hold, the later one of a model; return the other, which holds no more."""
        known = self._pins.get(pinned.key)
        if known == pinned:
            return None
        if known is not None and known.route.epoch >= pinned.route.epoch:
            return pinned
        self._pins[pinned.key] = pinned
        return known

    def lifted_by(self, model: str, route: RouteChanged | None) -> RoutePinned | None:
        """Return the model's pin, held no more, if this route is the answer to it."""
        known = self._pins.get(model)
        if known is None or route is None or route.epoch <= known.route.epoch:
            return None
        return self._pins.pop(model)
