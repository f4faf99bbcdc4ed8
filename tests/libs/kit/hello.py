"""A service for tests; a part of it dies when a file called `die` appears in STATE_DIR."""

from fastapi import APIRouter

from gyral.contracts.access import AccessKeyChanged
from gyral.kit.access import KeyRing
from gyral.kit.db import open_pool
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.kit.outbox import Relay
from gyral.kit.periodic import Periodic
from gyral.kit.projection import Projection
from gyral.kit.service import Service, serve
from gyral.kit.settings import CommonSettings


def build(settings):
    pool = open_pool(settings.dsn)
    keys = Projection(settings.kafka_brokers, AccessKeyChanged)
    health = Health(ready=[keys.ready])

    async def look():
        if (settings.state_dir / "die").exists():
            raise ValueError("told to")

    return Service(
        name="hello",
        settings=settings,
        health=health,
        api=create_api(
            "hello", [APIRouter()], keys=KeyRing(keys), health=health, projections=[keys]
        ),
        parts=[keys, Relay(pool, settings.kafka_brokers), Periodic("look", look, every_s=0.1)],
        pool=pool,
    )


if __name__ == "__main__":
    serve(build(CommonSettings()))
