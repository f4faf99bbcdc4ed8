"""A service's application over stores of the test's own, asked without a network."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI

from gyral.contracts.access import Scope
from gyral.kit.migrate import migrate
from gyral.kit.projection import Projection
from gyral.kit.service import Periodic
from gyral.testkit.events import send
from gyral.testkit.keys import an_access_key
from gyral.testkit.openapi import assembled


@dataclass(frozen=True)
class Asked:
    """A service's routes, and a client that may do everything."""

    name: str
    api: FastAPI
    client: httpx.AsyncClient


@pytest.fixture
def known(stack, blobs, postgres_dsn):
    """The settings that lead to stores of this test's own."""
    stores = stack.service_env(database=postgres_dsn, bucket=blobs.bucket)
    return {name.lower(): value for name, value in stores.items()}


@pytest.fixture
def asking(known, producer, tmp_path) -> Callable[..., AbstractAsyncContextManager[Asked]]:
    """Assemble a service over its real stores and ask it, `async with asking(name) as asked`.

    Its projections run, and its other parts of these kinds; nothing runs by the clock.
    """

    @asynccontextmanager
    async def ask(name: str, *kinds: type) -> AsyncIterator[Asked]:
        service = await assembled(name, tmp_path / name, known)
        assert isinstance(service.api, FastAPI)
        assert service.pool is not None
        key, issued = an_access_key(Scope.ADMIN)
        await send(producer, issued)
        parts = [part for part in service.parts if isinstance(part, (Projection, *kinds))]
        assert not any(isinstance(part, Periodic) for part in parts)
        async with service.pool:
            await migrate(service.pool, service.migrations, service=name)
            for part in parts:
                await part.start()
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(service.api, raise_app_exceptions=False),
                base_url="http://service",
                headers={"authorization": f"Bearer {key}"},
            ) as client:
                yield Asked(name, service.api, client)
            for part in parts:
                await part.stop()

    return ask
