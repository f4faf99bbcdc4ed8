"""What the gateway does when the deployer changes a route."""

from collections.abc import Callable
from dataclasses import dataclass

from gyral.contracts.deployment import RouteChanged, RoutePinned
from gyral.gateway.domain.pins import Pins
from gyral.gateway.domain.routing import RouteTable
from gyral.gateway.engine.fleet import Fleet
from gyral.kit.changes import Changes
from gyral.kit.telemetry import get_log

log = get_log()


@dataclass(frozen=True, slots=True)
class Handlers:
    """The gateway's reactions, with everything they need in plain sight."""

    table: RouteTable
    fleet: Fleet
    changes: Changes
    pins: Pins
    lifted: Callable[[RoutePinned], None]
    """Called with a pin that holds no more."""

    def route_changed(self, model: str, route: RouteChanged | None) -> None:
        """Send the model's requests where the route says, from the next request on.

        A pin's epoch lies above those of the routes it holds against, so the table keeps it.
        """
        if pinned := self.pins.lifted_by(model, route):
            self.lifted(pinned)
        if route is None and self.pins.get(model):
            return
        self.table.follow(model, route)
        self.fleet.follow(self.table.routes())
        self.changes.notify()
        log.info("route.followed", model=model, epoch=route.epoch if route else None)

    def route_pinned(self, pinned: RoutePinned) -> None:
        """Send the model's requests to the pinned version alone, from the next request on."""
        if replaced := self.pins.put(pinned):
            self.lifted(replaced)
        self.table.follow(pinned.key, pinned.route)
        self.fleet.follow(self.table.routes())
        self.changes.notify()
