"""Picks ports on loopback that nobody listens on."""

import random
import socket
from collections.abc import Container, Mapping

from gyral.local.errors import LocalError

_RANGE = range(20_000, 30_000)
"""Below what systems give to outgoing connections, which could take a server's place."""
_ATTEMPTS = 1_000


def free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def choose(wanted: Mapping[str, int], taken: Container[int], *, prefer: bool) -> dict[str, int]:
    """Return a free port for each name: the preferred one where asked and possible, else any.

    Raises:
        LocalError: no port is free.
    """
    chosen: dict[str, int] = {}
    for name, preferred in wanted.items():
        usable = prefer and preferred not in chosen.values() and preferred not in taken
        if usable and free(preferred):
            chosen[name] = preferred
        else:
            chosen[name] = _any(chosen.values(), taken)
    return chosen


def _any(chosen: Container[int], taken: Container[int]) -> int:
    for _ in range(_ATTEMPTS):
        port = random.SystemRandom().choice(_RANGE)
        if port not in chosen and port not in taken and free(port):
            return port
    raise LocalError(
        f"no free port from {_RANGE.start} to {_RANGE.stop}: stop some servers and try again"
    )
