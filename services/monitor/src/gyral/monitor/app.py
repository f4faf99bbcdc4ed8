"""Assembles the monitor."""

import time

from gyral.contracts.data import StreamDeclared
from gyral.contracts.versions import ChampionChanged, ModelDeclared
from gyral.kit.assembly import Ground
from gyral.kit.blobs import Blobs
from gyral.kit.dataplane import DataPlane
from gyral.kit.projection import Projection
from gyral.kit.service import Periodic, Service
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
    ground = Ground.of(NAME, settings, MonitorTx)
    opened, changes, profiles = ground.begin, ground.changes, Profiles()
    specs = Specs(Projection(brokers, ModelDeclared), Projection(brokers, StreamDeclared))
    champions = Projection(
        brokers,
        ChampionChanged,
        on_change=Champions(opened, Blobs(settings)).champion_changed,
    )
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
        pool=ground.pool,
        handle=observing.predictions_and_labels,
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
    return ground.service(
        [api.routes(opened, specs, changes)],
        [
            plane,
            Periodic("wall clock", clock.run_once, every_s=settings.monitor_wall_clock_every_s),
        ],
        projections=[specs.models, specs.streams, champions],
        ready=[plane.ready],
    )
