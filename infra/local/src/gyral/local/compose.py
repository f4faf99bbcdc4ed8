"""The graph of processes that docker-compose.yml means without Docker."""

import re
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter

from gyral.local.document import Document, Entry, LocalPart
from gyral.local.errors import LocalError
from gyral.local.interpolation import interpolate

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


class Restart(StrEnum):
    """What becomes of a process that ended."""

    NO = "no"
    ON_FAILURE = "on-failure"
    UNLESS_STOPPED = "unless-stopped"
    ALWAYS = "always"

    def after(self, exit_code: int) -> bool:
        """Whether a process that ended with this code is started again."""
        return self in {Restart.ALWAYS, Restart.UNLESS_STOPPED} or (
            self is Restart.ON_FAILURE and exit_code != 0
        )


class Condition(StrEnum):
    """What must hold of a dependency first."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


class Protocol(StrEnum):
    """How a probe asks; none of them starts a process."""

    HTTP = "http"
    TCP = "tcp"
    KAFKA = "kafka"
    POSTGRES = "postgres"


@dataclass(frozen=True, slots=True)
class Probe:
    """A question to a running process: `target` is a URL for HTTP, else host:port."""

    protocol: Protocol
    target: str


@dataclass(frozen=True, slots=True)
class Timing:
    """When probes ask and how many failures count."""

    interval_s: float
    timeout_s: float
    start_period_s: float
    retries: int


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the stack, with every variable filled in."""

    name: str
    group: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    needs: Mapping[str, Condition]
    restart: Restart
    timing: Timing
    health: Probe | None
    live: Probe | None
    ports: Mapping[str, int]
    socket: str
    """The variable of the port whose socket the process inherits, or none."""
    jars: tuple[str, ...]
    stop_signal: signal.Signals
    stop_grace_s: float


def seconds(duration: str) -> float:
    """Return a compose duration such as `1m30s`, `10s` or `500ms` in seconds."""
    match = _DURATION.fullmatch(duration)
    if not duration or match is None:
        raise LocalError(
            f"docker-compose.yml: {duration!r} is no duration; expected 1m30s, 10s or 500ms"
        )
    minutes, whole, millis = (float(part or 0) for part in match.groups())
    return 60 * minutes + whole + millis / 1000


def services(document: Document, values: Mapping[str, str]) -> dict[str, Service]:
    """Return the entries that run as plain processes, each after all that it needs.

    Raises:
        LocalError: a variable is missing, a value is malformed, or the graph has a cycle.
    """
    local = {
        name: entry for name, entry in document.services.items() if entry.local is not None
    }
    sorter = TopologicalSorter(
        {
            name: [need for need in entry.depends_on if need in local]
            for name, entry in local.items()
        }
    )
    try:
        order = tuple(sorter.static_order())
    except CycleError as error:
        raise LocalError(
            f"docker-compose.yml: depends_on has a cycle: {error.args[1]}"
        ) from error
    return {name: _service(name, local, values) for name in order}


def select(graph: Mapping[str, Service], wanted: Iterable[str]) -> tuple[str, ...]:
    """Return the wanted services (by name or group) with all that they need, in starting order.

    Raises:
        LocalError: there is no such service or group.
    """
    chosen: set[str] = set()
    for word in wanted:
        names = [name for name, service in graph.items() if word in {name, service.group}]
        if not names:
            raise LocalError(
                f"no service or group is called {word!r}; there are: {', '.join(graph)}"
            )
        chosen.update(names)
    for name in reversed(list(graph)):
        if name in chosen:
            chosen.update(graph[name].needs)
    return tuple(name for name in graph if name in chosen)


def _service(name: str, local: Mapping[str, Entry], values: Mapping[str, str]) -> Service:
    entry = local[name]
    part = entry.local
    if part is None:  # pragma: no cover - the caller keeps local entries only
        raise LocalError(f"docker-compose.yml: {name} has no x-local")
    check = entry.healthcheck
    return Service(
        name=name,
        group=part.group,
        command=tuple(interpolate(word, values) for word in part.command),
        environment={
            key: interpolate(text, values)
            for key, text in {**entry.environment, **part.environment}.items()
        },
        needs={
            need: Condition(d.condition)
            for need, d in entry.depends_on.items()
            if need in local
        },
        restart=Restart(entry.restart.split(":")[0]),
        timing=Timing(
            interval_s=seconds(check.interval),
            timeout_s=seconds(check.timeout),
            start_period_s=seconds(check.start_period),
            retries=check.retries,
        ),
        health=_probe(name, part.health, values),
        live=_probe(name, part.live, values),
        ports=_ports(part, values),
        socket=_socket(name, part),
        jars=part.jars,
        stop_signal=signal.Signals[part.stop_signal],
        stop_grace_s=seconds(entry.stop_grace_period),
    )


def _probe(name: str, part: Mapping[str, str], values: Mapping[str, str]) -> Probe | None:
    if not part:
        return None
    [(protocol, target)] = part.items()
    try:
        return Probe(Protocol(protocol), interpolate(target, values))
    except ValueError as error:
        raise LocalError(
            f"docker-compose.yml: {name} is probed by {protocol!r}; "
            f"expected one of {', '.join(Protocol)}"
        ) from error


def _socket(name: str, part: LocalPart) -> str:
    if part.socket and part.socket not in part.ports:
        raise LocalError(
            f"docker-compose.yml: {name} inherits the socket of {part.socket!r}; expected one"
            f" of its ports, {', '.join(part.ports)}"
        )
    return part.socket


def _ports(part: LocalPart, values: Mapping[str, str]) -> dict[str, int]:
    return {variable: int(values[variable]) for variable in part.ports}
