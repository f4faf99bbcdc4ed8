"""The runtime, assembled."""

from gyral.kit.blobs import Blobs
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.kit.service import Service
from gyral.kit.sockets import data_address
from gyral.runtime.api.repository import Limits, Repository
from gyral.runtime.api.routes import ServiceKey, create_router
from gyral.runtime.engine.shelf import Shelf
from gyral.runtime.jobs import DataServer, Door
from gyral.runtime.settings import Settings
from gyral.runtime.store import Cache


def build(settings: Settings) -> Service:
    """Return the runtime, ready to run; it listens for batches once its cache is loaded."""
    shelf = Shelf(memory_bytes=settings.runtime_memory_bytes)
    limits = Limits(
        max_models=settings.runtime_max_models,
        trial_timeout_s=settings.runtime_trial_timeout_s,
        trial_memory_bytes=settings.runtime_trial_memory_bytes,
        flavour=settings.runtime_flavour,
    )
    repository = Repository(Blobs(settings), Cache(settings.state_dir), shelf, limits)
    health = Health()
    key = settings.service_key.get_secret_value()
    api = create_api(
        "runtime",
        [create_router(repository)],
        keys=ServiceKey(key),
        health=health,
    )
    return Service(
        name="runtime",
        settings=settings,
        health=health,
        api=api,
        parts=[DataServer(data_address(settings.runtime_listen), shelf, Door(key))],
        on_start=[repository.restore],
    )
