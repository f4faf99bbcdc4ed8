"""A registry's database, with one model and its streams declared."""

import itertools
from importlib import resources

import pytest

from gyral.kit.migrate import migrate
from gyral.kit.tx import begin
from gyral.registry.store import RegistryTx
from gyral.registry.store.declarations import Author
from tests.services.registry.builders import NOW, a_model, a_stream

IDS = (f"00000000-0000-4000-8000-{number:012d}" for number in itertools.count(1))


@pytest.fixture
async def opened(pool):
    await migrate(pool, resources.files("gyral.registry") / "migrations", service="registry")
    return begin(pool, RegistryTx, service="registry")


@pytest.fixture
async def declared(opened):
    author = Author("tester", NOW, next(IDS))
    async with opened() as tx:
        await tx.declare_stream(a_stream(), author)
        await tx.declare_stream(a_stream("orders", amount={"type": "number"}), author)
        await tx.declare_model(a_model(), author)
    return opened
