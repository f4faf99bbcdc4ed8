"""The gateway, assembled."""

import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from gyral.contracts.access import AccessKeyChanged
from gyral.contracts.deployment import RouteChanged
from gyral.contracts.events import Event
from gyral.gateway.api.answering import Answering, Patience
from gyral.gateway.api.front import Front
from gyral.gateway.api.operations import Operations, create_router
from gyral.gateway.api.pins import Pinning, create_pin_router
from gyral.gateway.api.protocol import OpenInference
from gyral.gateway.api.rpc import RpcServer, Servicer
from gyral.gateway.api.shadows import Shadows
from gyral.gateway.domain.ids import Ids
from gyral.gateway.domain.pins import Pins
from gyral.gateway.domain.routing import RouteTable
from gyral.gateway.engine.crowding import Room
from gyral.gateway.engine.fleet import Fleet
from gyral.gateway.engine.reporting import Reporter
from gyral.gateway.handlers import Handlers
from gyral.gateway.jobs import Announcer, Forwarder
from gyral.gateway.settings import Settings
from gyral.gateway.store.pins import PinFiles
from gyral.kit.access import KeyRing
from gyral.kit.changes import Changes
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.kit.journal import Journal, Limits
from gyral.kit.projection import Projection
from gyral.kit.service import Service
from gyral.kit.telemetry import Sometimes
from gyral.kit.timings import Timings

E = TypeVar("E", bound=Event)
_SPARE_CALLS = 64
"""Over gRPC, beside requests in hand: so that health is told, and 429 said, under full load."""
_CONNECTIONS = 8192
"""Beyond it connections get 503; requests are bounded before, by what is in hand."""


def build(settings: Settings) -> Service:
    """Return the gateway, ready to run; nothing of it needs Postgres or the object store."""
    table, changes, health = RouteTable(), Changes(), Health()
    fleet = Fleet(
        random.Random(),  # noqa: S311 - jitter
        hang_s=settings.gateway_hang_timeout_s,
        room=Room(settings.gateway_max_version_requests, settings.gateway_queue_s),
        service_key=settings.service_key.get_secret_value(),
    )
    reporter = Reporter(settings.kafka_brokers, settings.member("gateway"), fleet.collect)
    fleet.away = reporter.away
    journal = _journal(settings)
    shadows = Shadows(limit=settings.gateway_max_shadows)
    pins, pin_files = Pins(), PinFiles(settings.state_dir / "pins")
    announcer = Announcer(settings.kafka_brokers, pin_files)
    handlers = Handlers(table, fleet, changes, pins, announcer.forget)
    announcer.subscribe(handlers.route_pinned)
    routes = _projection(settings, RouteChanged, "routes")
    routes.subscribe(handlers.route_changed)
    took_effect = [handlers.route_pinned, announcer.tell]
    pinning = Pinning(table, pins, pin_files, took_effect, routes.ready, _now)
    known_keys = _projection(settings, AccessKeyChanged, "keys")
    keys = KeyRing(known_keys)
    latest_us = _ahead(settings.gateway_future_s)
    operations = Operations(table, journal, shadows, changes, _now_us, latest_us)
    health.ready += [routes.ready, known_keys.ready, fleet.unreachable, journal.writable]
    patience = Patience(settings.gateway_request_timeout_s, settings.gateway_fallback_timeout_s)
    answering = Answering(fleet, journal, shadows, patience, _now_us)
    most = settings.gateway_max_requests
    front = Front(keys, table, answering, health, Ids(os.urandom), latest_us, most)
    seconds = Timings("gyral_gateway_seconds", "Time to answer", label="status").shown_in()
    spans = Sometimes(settings.gateway_span_one_in)
    api = OpenInference(
        front=front,
        rest=create_api(
            "gateway",
            [create_router(operations), create_pin_router(pinning)],
            keys=keys,
            health=health,
            projections=[routes, known_keys],
        ),
        seconds=seconds,
        spans=spans,
        max_body_bytes=settings.gateway_max_body_bytes,
    )
    return Service(
        name="gateway",
        settings=settings,
        health=health,
        api=api,
        parts=[
            Forwarder(settings.kafka_brokers, journal),
            known_keys,
            fleet,
            reporter,
            announcer,
            routes,
            *_rpc(settings, Servicer(front, seconds, spans)),
        ],
        limit_concurrency=_CONNECTIONS,
    )


def _rpc(settings: Settings, servicer: Servicer) -> list[RpcServer]:
    """Return the gRPC server, where one is wanted."""
    port = settings.gateway_grpc_port
    if port is None:
        return []
    return [
        RpcServer(
            servicer,
            host=settings.http_host,
            port=port,
            max_bytes=settings.gateway_max_body_bytes,
            max_calls=settings.gateway_max_requests + _SPARE_CALLS,
        )
    ]


def _journal(settings: Settings) -> Journal:
    limits = Limits(
        max_bytes=settings.gateway_journal_max_bytes,
        segment_bytes=settings.gateway_journal_segment_bytes,
        fsync=settings.gateway_journal_fsync,
    )
    return Journal(settings.state_dir / "journal", limits)


def _projection(settings: Settings, event_type: type[E], name: str) -> Projection[E]:
    """Return a projection that can start from what it last knew."""
    return Projection(
        settings.kafka_brokers,
        event_type,
        snapshot=settings.state_dir / f"{name}.jsonl",
        snapshot_after_s=settings.gateway_snapshot_after_s,
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _now_us() -> int:
    return time.time_ns() // 1000


def _ahead(future_s: float) -> Callable[[], int]:
    """Return a clock that runs so far ahead."""
    future_us = round(future_s * 1e6)
    return lambda: _now_us() + future_us
