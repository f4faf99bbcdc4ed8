"""Assembles the deployer."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import httpx

from gyral.contracts.data import StreamDeclared
from gyral.contracts.deployment import RoutePinned
from gyral.contracts.inference import PredictionLogged, ServingDemand
from gyral.contracts.versions import ModelDeclared, VersionApproved
from gyral.deployer import api
from gyral.deployer.domain.demand import Demand
from gyral.deployer.domain.scaling import Limits, Pace
from gyral.deployer.engine.backend import Backend, Flavour
from gyral.deployer.engine.groups import Groups
from gyral.deployer.engine.processes import Processes, Surroundings
from gyral.deployer.engine.runtimes import Runtime
from gyral.deployer.engine.workloads import Pods
from gyral.deployer.handlers import Handlers
from gyral.deployer.jobs.following import Addressing, Reconciliation
from gyral.deployer.jobs.preparing import Export, Preparation
from gyral.deployer.jobs.scaling import Scaling, nobody_is_left
from gyral.deployer.settings import BackendName, Settings
from gyral.deployer.store import DeployerTx
from gyral.deployer.store.specs import Specs
from gyral.kit.assembly import Ground
from gyral.kit.blobs import Blobs
from gyral.kit.dataplane import DataPlane
from gyral.kit.leases import Jobs, Worker
from gyral.kit.projection import Projection
from gyral.kit.service import Part, Periodic, Service
from gyral.kit.tailing import Tail

NAME = "deployer"
_DECIDE_S = 1.0
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_MARK = "GYRAL_PROCESS"
"""By it the local stack finds all processes that it has to end with itself."""
_NOT_FOR_MADE = (
    *("RUNTIME_URL", "RUNTIME_SOCKET", "RUNTIME_REPLICAS"),
    *("RUNTIME_LISTEN", "RUNTIME_FLAVOUR"),
)
"""Settings of the deployer itself, and what each runtime is told for itself."""


def build(settings: Settings) -> Service:
    """Return the service, made and not yet started."""
    brokers = settings.kafka_brokers
    ground = Ground.of(NAME, settings, DeployerTx)
    pool, opened, changes = ground.pool, ground.begin, ground.changes
    specs = Specs(Projection(brokers, ModelDeclared), Projection(brokers, StreamDeclared))
    preparations, exports = Jobs(pool, "prepare"), Jobs(pool, "export")
    partitions = PredictionLogged.topic.partitions
    runtimes = _Runtimes(settings, ground, specs)
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
        groups=runtimes.groups,
        specs=specs,
        wake=runtimes.wake,
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
            api.groups(opened, runtimes.groups),
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
            *runtimes.made,
            Worker(
                preparations,
                preparation.run,
                name=worker,
                lease_s=settings.deployer_lease_s,
                on_exhausted=preparation.gave_up,
            ),
            Worker(exports, Export(opened, Blobs(settings)).run, name=worker, lease_s=60),
            Periodic("time-limits", handlers.time_passed, every_s=5),
            *runtimes.followed,
        ],
        on_start=[] if runtimes.groups.backend else [partial(nobody_is_left, opened)],
        projections=[specs.models, specs.streams],
    )


class _Runtimes:
    """What looks after the runtimes: those that settings name, and those that are made."""

    def __init__(self, settings: Settings, ground: Ground[DeployerTx], specs: Specs) -> None:
        client = _client(settings)
        fixed = {address: Runtime(client, url) for url, address in settings.runtimes}
        backend = _backend(settings, self._changed)
        self.groups = Groups(fixed, backend, client)
        addressing = Addressing(ground.begin, self.groups, specs, _now, ground.changes)
        self._reconciliation = Reconciliation(ground.begin, self.groups, specs, _now)
        every_s = settings.deployer_reconcile_s
        self._timers = [
            Periodic("addresses", addressing.run_once, every_s=every_s),
            Periodic("reconcile", self._reconciliation.run_once, every_s=every_s),
        ]
        self._scaling: Scaling | None = None
        self.made: list[Part] = [self.groups]
        if backend is not None:
            self._scaling = _scaling(settings, ground, specs, self.groups, backend)
            self._scaling.woken = self._changed
            deciding = Periodic("scaling", self._scaling.run_once, every_s=_DECIDE_S)
            self._timers.insert(0, deciding)
            tail = Tail(settings.kafka_brokers, ServingDemand, self._scaling.heard)
            self.made += [backend, tail]

    @property
    def followed(self) -> list[Part]:
        return [self._reconciliation, *self._timers]

    async def wake(self, group: str, why: str) -> None:
        if self._scaling is not None:
            await self._scaling.wake(group, why)

    def _changed(self) -> None:
        """Have everybody look at once: a runtime came or went, or somebody waits for one."""
        for timer in self._timers:
            timer.soon()


class _Making(Backend, Part, Protocol):
    """A backend that runs inside the service."""


def _backend(settings: Settings, changed: Callable[[], None]) -> _Making | None:
    match settings.deployer_backend:
        case BackendName.NONE:
            return None
        case BackendName.PROCESS:
            around = Surroundings(
                _environment(settings, os.environ),
                _secrets(settings),
                {flavour: {"RUNTIME_FLAVOUR": flavour} for flavour in Flavour},
            )
            return Processes(settings.state_dir / "runtimes", settings.sockets, around, changed)
        case BackendName.KUBERNETES:
            return _kubernetes(settings)


def _kubernetes(settings: Settings) -> _Making:
    # Its client takes a third of a second to import, which only those wait for that use it.
    from gyral.deployer.engine.kubernetes import Cluster, Kubernetes  # noqa: PLC0415

    cluster = Cluster(
        host=settings.kubernetes_service_host,
        port=settings.kubernetes_service_port,
        credentials=settings.kubernetes_credentials,
        timeout_s=settings.kubernetes_timeout_s,
    )
    pods = Pods(
        namespace=settings.kubernetes_namespace,
        image=settings.kubernetes_image,
        torch_image=settings.kubernetes_torch_image or settings.kubernetes_image,
        cpu=settings.kubernetes_cpu,
        memory=settings.kubernetes_memory,
        settled_s=settings.kubernetes_settled_s,
        knobs=_knobs(os.environ),
    )
    return Kubernetes(cluster, pods)


def _environment(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return what a runtime is told of its surroundings, and its own knobs."""
    told = {
        "S3_ENDPOINT": settings.s3_endpoint,
        "S3_ACCESS_KEY": settings.s3_access_key,
        "S3_BUCKET": settings.s3_bucket,
        "LOG_LEVEL": settings.log_level,
        "OMP_NUM_THREADS": "1",
    }
    traces = settings.otel_exporter_otlp_traces_endpoint
    if traces is not None:
        told["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = traces
    kept = {name: inherited[name] for name in (*_INHERITED, _MARK) if name in inherited}
    return {**kept, **_knobs(inherited), **told}


def _knobs(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return what of the deployer's environment is meant for the runtimes that it makes."""
    return {
        name: value
        for name, value in inherited.items()
        if name.startswith("RUNTIME_") and name not in _NOT_FOR_MADE
    }


def _secrets(settings: Settings) -> dict[str, str]:
    return {
        "SERVICE_KEY": settings.service_key.get_secret_value(),
        "S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
    }


def _scaling(
    settings: Settings,
    ground: Ground[DeployerTx],
    specs: Specs,
    groups: Groups,
    backend: Backend,
) -> Scaling:
    pace = Pace(settings.deployer_scale_out_s, settings.deployer_scale_in_s)
    return Scaling(
        begin=ground.begin,
        groups=groups,
        backend=backend,
        specs=specs,
        demand=Demand(time.monotonic(), keep_s=max(pace.in_s, pace.out_s)),
        pace=pace,
        shared=Limits(settings.runtimes_min, settings.runtimes_max, settings.runtimes_queue_s),
        linger_s=settings.deployer_linger_s,
        now=_now,
        clock=time.monotonic,
    )


def _client(settings: Settings) -> httpx.AsyncClient:
    key = settings.service_key.get_secret_value()
    return httpx.AsyncClient(
        headers={"authorization": f"Bearer {key}"},
        timeout=httpx.Timeout(5, read=settings.deployer_load_timeout_s),
        trust_env=False,
    )


def _now() -> datetime:
    return datetime.now(UTC)
