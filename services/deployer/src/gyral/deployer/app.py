"""Assembles the deployer."""

import os
import socket
from datetime import UTC, datetime

import httpx

from gyral.contracts.data import StreamDeclared
from gyral.contracts.deployment import RoutePinned
from gyral.contracts.inference import PredictionLogged
from gyral.contracts.versions import ModelDeclared, VersionApproved
from gyral.deployer import api
from gyral.deployer.handlers import Handlers
from gyral.deployer.jobs.following import Addressing, Reconciliation
from gyral.deployer.jobs.preparing import Export, Preparation
from gyral.deployer.jobs.runtimes import Runtime, Runtimes
from gyral.deployer.settings import Settings
from gyral.deployer.store import DeployerTx
from gyral.deployer.store.specs import Specs
from gyral.kit.assembly import Ground
from gyral.kit.blobs import Blobs
from gyral.kit.dataplane import DataPlane
from gyral.kit.leases import Jobs, Worker
from gyral.kit.projection import Projection
from gyral.kit.service import Periodic, Service

NAME = "deployer"


def build(settings: Settings) -> Service:
    """Return the service, made and not yet started."""
    brokers = settings.kafka_brokers
    ground = Ground.of(NAME, settings, DeployerTx)
    pool, opened, changes = ground.pool, ground.begin, ground.changes
    specs = Specs(Projection(brokers, ModelDeclared), Projection(brokers, StreamDeclared))
    runtimes = [Runtime(_client(settings, url)) for url, _ in settings.runtimes]
    addresses = tuple(address for _, address in settings.runtimes)
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
        begin=opened,
        jobs=preparations,
        runtimes=Runtimes(tuple(runtimes)),
        specs=specs,
        addresses=addresses,
        now=_now,
        changes=changes,
    )
    worker = f"{socket.gethostname()}/{os.getpid()}"
    bus = ground.bus()
    bus.on(VersionApproved, handlers.version_approved)
    bus.on(RoutePinned, handlers.route_pinned)
    return ground.service(
        [
            api.views(opened, changes, partitions),
            api.orders(opened, changes, _now, partitions),
        ],
        [
            bus,
            DataPlane(
                brokers,
                group=NAME,
                topics=[PredictionLogged.topic.name],
                begin=opened,
                pool=pool,
                handle=handlers.predictions,
                max_wait_s=0.5,
                instance_id=f"{settings.member(NAME)}-predictions",
            ),
            Worker(
                preparations,
                preparation.run,
                name=worker,
                lease_s=settings.deployer_lease_s,
                on_exhausted=preparation.gave_up,
            ),
            Worker(exports, Export(opened, Blobs(settings)).run, name=worker, lease_s=60),
            Periodic("time-limits", handlers.time_passed, every_s=5),
            Periodic(
                "addresses",
                Addressing(
                    opened, dict(zip(addresses, runtimes, strict=True)), _now, changes
                ).run_once,
                every_s=settings.deployer_reconcile_s,
            ),
            *(
                Periodic(
                    f"reconcile {number}",
                    Reconciliation(opened, runtime, _now).run_once,
                    every_s=settings.deployer_reconcile_s,
                )
                for number, runtime in enumerate(runtimes)
            ),
        ],
        projections=[specs.models, specs.streams],
    )


def _client(settings: Settings, url: str) -> httpx.AsyncClient:
    key = settings.service_key.get_secret_value()
    return httpx.AsyncClient(
        base_url=url,
        headers={"authorization": f"Bearer {key}"},
        timeout=httpx.Timeout(5, read=settings.deployer_load_timeout_s),
        trust_env=False,
    )


def _now() -> datetime:
    return datetime.now(UTC)
