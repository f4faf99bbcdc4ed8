"""Assembles the deployer."""

import os
import socket
from datetime import UTC, datetime
from importlib import resources

import httpx

from gyral.contracts.access import AccessKeyChanged
from gyral.contracts.data import StreamDeclared
from gyral.contracts.inference import PredictionLogged
from gyral.contracts.versions import ModelDeclared, VersionApproved
from gyral.deployer import api
from gyral.deployer.handlers import Handlers
from gyral.deployer.jobs import Export, Preparation, Reconciliation, Runtime
from gyral.deployer.settings import Settings
from gyral.deployer.store import DeployerTx
from gyral.deployer.store.specs import Specs
from gyral.kit.access import KeyRing
from gyral.kit.blobs import Blobs
from gyral.kit.bus import Bus
from gyral.kit.changes import Changes
from gyral.kit.dataplane import DataPlane
from gyral.kit.db import open_pool
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.kit.leases import Jobs, Worker
from gyral.kit.outbox import Relay
from gyral.kit.projection import Projection
from gyral.kit.service import Periodic, Service
from gyral.kit.tx import begin

NAME = "deployer"


def build(settings: Settings) -> Service:
    """Return the service, made and not yet started."""
    brokers = settings.kafka_brokers
    pool = open_pool(settings.dsn, max_size=settings.database_connections)
    opened = begin(pool, DeployerTx, service=NAME)
    access = Projection(brokers, AccessKeyChanged)
    specs = Specs(Projection(brokers, ModelDeclared), Projection(brokers, StreamDeclared))
    changes = Changes()
    runtime = Runtime(_client(settings))
    preparations, exports = Jobs(pool, "prepare"), Jobs(pool, "export")
    partitions = PredictionLogged.topic.partitions
    handlers = Handlers(
        begin=opened,
        preparations=preparations,
        exports=exports,
        specs=specs,
        partitions=partitions,
        now=_now,
        changes=changes,
    )
    preparation = Preparation(
        opened, preparations, runtime, specs, f"unix:{settings.runtime_socket}", _now, changes
    )
    worker = f"{socket.gethostname()}/{os.getpid()}"
    health = Health(ready=[access.ready, specs.ready])
    bus = Bus(brokers, service=NAME, pool=pool, instance_id=settings.member(NAME))
    bus.on(VersionApproved, handlers.version_approved)
    return Service(
        name=NAME,
        settings=settings,
        health=health,
        api=create_api(
            NAME,
            [
                api.views(opened, changes, partitions),
                api.orders(opened, changes, _now, partitions),
            ],
            keys=KeyRing(access),
            health=health,
            projections=[access, specs.models, specs.streams],
        ),
        pool=pool,
        migrations=resources.files("gyral.deployer") / "migrations",
        parts=[
            access,
            specs.models,
            specs.streams,
            Relay(pool, brokers),
            bus,
            DataPlane(
                brokers,
                group=NAME,
                topics=[PredictionLogged.topic.name],
                begin=opened,
                pool=pool,
                handle=handlers.predictions,
                max_wait_s=0.5,
                instance_id=settings.member(f"{NAME}-predictions"),
            ),
            Worker(
                preparations,
                preparation.run,
                name=worker,
                lease_s=settings.deployer_lease_s,
                on_exhausted=preparation.gave_up,
            ),
            Worker(exports, Export(opened, Blobs(settings)).run, name=worker, lease_s=60),
            Periodic(
                "reconcile",
                Reconciliation(opened, runtime).run_once,
                every_s=settings.deployer_reconcile_s,
            ),
        ],
    )


def _client(settings: Settings) -> httpx.AsyncClient:
    key = settings.service_key.get_secret_value()
    return httpx.AsyncClient(
        base_url=settings.runtime_url,
        headers={"authorization": f"Bearer {key}"},
        timeout=httpx.Timeout(5, read=settings.deployer_load_timeout_s),
        trust_env=False,
    )


def _now() -> datetime:
    return datetime.now(UTC)
