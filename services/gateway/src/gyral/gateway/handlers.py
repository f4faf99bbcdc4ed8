"""What the gateway does when the deployer changes a route."""

from dataclasses import dataclass

from gyral.contracts.deployment import RouteChanged
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

    def route_changed(self, model: str, route: RouteChanged | None) -> None:
        """Send the model's requests where the route says, from the next request on."""
        self.table.follow(model, route)
        self.fleet.follow(self.table.routes())
        self.changes.notify()
        log.info("route.followed", model=model, epoch=route.epoch if route else None)
