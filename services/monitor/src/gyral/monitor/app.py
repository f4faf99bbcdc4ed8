"""Assembles the monitor."""

import time
from importlib import resources

from gyral.contracts.access import AccessKeyChanged
from gyral.contracts.data import StreamDeclared
from gyral.contracts.versions import ChampionChanged, ModelDeclared
from gyral.kit.access import KeyRing
from gyral.kit.blobs import Blobs
from gyral.kit.changes import Changes
from gyral.kit.dataplane import DataPlane
from gyral.kit.db import open_pool
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.kit.outbox import Relay
from gyral.kit.projection import Projection
from gyral.kit.service import Periodic, Service
from gyral.kit.tx import begin
from gyral.monitor import api
from gyral.monitor.handlers.champions import Champions
from gyral.monitor.handlers.closing import Closing
from gyral.monitor.handlers.observing import Observing
from gyral.monitor.jobs import WallClock
from gyral.monitor.settings import Settings
from gyral.monitor.store import MonitorTx
from gyral.monitor.store.champions import Profiles
from gyral.monitor.store.observations import PARTITIONS
from gyral.monitor.store.specs import Specs

NAME = "monitor"
_DAY_US = 86_400_000_000


def build(settings: Settings) -> Service:
    """Return the service, made and not yet started."""
    brokers = settings.kafka_brokers
    pool = open_pool(settings.dsn, max_size=settings.database_connections)
    opened = begin(pool, MonitorTx, service=NAME)
    access = Projection(brokers, AccessKeyChanged)
    specs = Specs(Projection(brokers, ModelDeclared), Projection(brokers, StreamDeclared))
    champions = Projection(
        brokers,
        ChampionChanged,
        on_change=Champions(opened, Blobs(settings)).champion_changed,
    )
    changes, profiles = Changes(), Profiles()
    closing = Closing(
        specs=specs,
        profiles=profiles,
        label_patience_us=settings.monitor_label_patience_days * _DAY_US,
    )
    observing = Observing(opened, specs, profiles, closing, changes)
    plane = DataPlane(
        brokers,
        group=NAME,
        topics=list(PARTITIONS),
        begin=opened,
        pool=pool,
        handle=observing.predictions,
        max_wait_s=settings.monitor_max_wait_s,
        instance_id=settings.member(NAME),
    )
    clock = WallClock(
        specs,
        observing.advance,
        caught_up=lambda: plane.ready() is None and not any(plane.lag().values()),
        now_us=lambda: time.time_ns() // 1000,
        grace_us=round(settings.monitor_wall_clock_grace_s * 1e6),
    )
    health = Health(ready=[access.ready, specs.ready, champions.ready, plane.ready])
    return Service(
        name=NAME,
        settings=settings,
        health=health,
        api=create_api(
            NAME,
            [api.routes(opened, specs, changes)],
            keys=KeyRing(access),
            health=health,
            projections=[access, specs.models, specs.streams, champions],
        ),
        pool=pool,
        migrations=resources.files("gyral.monitor") / "migrations",
        parts=[
            access,
            specs.models,
            specs.streams,
            champions,
            Relay(pool, brokers),
            plane,
            Periodic("wall clock", clock.run_once, every_s=settings.monitor_wall_clock_every_s),
        ],
    )
