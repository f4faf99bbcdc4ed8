"""Which version answers a request: a pure function of the route and one key of the request."""

import zlib
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from gyral.contracts.deployment import RouteChanged, Share

_POINTS = 1 << 32


class NoLiveVersionError(ValueError):
    """The route gives no version any weight."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A route, laid out for choosing."""

    route: RouteChanged
    live: tuple[Share, ...]
    """Shares with weight, the newest version first: a candidate's interval grows from 0, so who
    was once given to it stays with it while its weight grows."""
    edges: tuple[int, ...]
    """Upper ends of their intervals, cumulative."""
    shadows: tuple[Share, ...]
    known_inputs: frozenset[str]
    """Inputs that any version of the route reads."""
    order: tuple[str, ...] | None
    """The same as all versions list them, or None when they do not list the same."""

    def share_of(self, version: int) -> Share | None:
        """Return the share of a version that the route names, whatever its weight."""
        return next((share for share in self.route.shares if share.version == version), None)

    def stand_in(self, failed: Share) -> Share | None:
        """Return the heaviest other live share, or None."""
        others = [share for share in self.live if share.version != failed.version]
        return max(others, key=lambda share: (share.weight, share.version), default=None)


def plan(route: RouteChanged) -> Plan:
    """Return the route laid out for choosing."""
    weighted = [share for share in route.shares if share.weight > 0 and not share.shadow]
    orders = {share.names for share in route.shares}
    live = tuple(sorted(weighted, key=lambda share: -share.version))
    return Plan(
        route=route,
        live=live,
        edges=tuple(accumulate(share.weight for share in live)),
        shadows=tuple(share for share in route.shares if share.shadow),
        known_inputs=frozenset(each.name for share in route.shares for each in share.inputs),
        order=orders.pop() if len(orders) == 1 else None,
    )


def choose(laid_out: Plan, key: str) -> Share:
    """Return the one version that answers a request with this key.

    Raises:
        NoLiveVersionError: no share has weight.
    """
    if not laid_out.live:
        raise NoLiveVersionError(
            f"{laid_out.route.model}: no version of the route has any weight"
        )
    if len(laid_out.live) == 1:
        return laid_out.live[0]
    point = point_of(laid_out.route.model, key) * laid_out.edges[-1] // _POINTS
    return laid_out.live[bisect_right(laid_out.edges, point)]


def point_of(model: str, key: str) -> int:
    """Return where a key lies on the model's circle, in [0, 2**32).

    CRC-32 alone is linear: two models would split the same keys alike, up to a shift. The
    finaliser of MurmurHash3 (A. Appleby, public domain) makes each bit depend on all of them.
    """
    bits = zlib.crc32(key.encode("utf-8", "surrogatepass"), zlib.crc32(model.encode()))
    bits = (bits ^ bits >> 16) * 0x85EBCA6B % _POINTS
    bits = (bits ^ bits >> 13) * 0xC2B2AE35 % _POINTS
    return bits ^ bits >> 16


class RouteTable:
    """The current route of each model, laid out."""

    def __init__(self) -> None:
        self._plans: dict[str, Plan] = {}

    def get(self, model: str) -> Plan | None:
        """Return a model's plan, or None."""
        return self._plans.get(model)

    def routes(self) -> list[RouteChanged]:
        """Return the current routes."""
        return [laid_out.route for laid_out in self._plans.values()]

    def follow(self, model: str, route: RouteChanged | None) -> None:
        """Take up a model's new route; an older epoch than the known one changes nothing."""
        known = self._plans.get(model)
        if route is None:
            self._plans.pop(model, None)
        elif known is None or route.epoch >= known.route.epoch:
            self._plans[model] = plan(route)
