"""Listings of the registry come in pages: everything once, in one order."""

from datetime import timedelta
from importlib import resources

import pytest

from gyral.contracts.access import Scope
from gyral.kit.migrate import migrate
from gyral.kit.tx import begin
from gyral.registry.domain.verdict import Verdict
from gyral.registry.store import RegistryTx
from gyral.registry.store.declarations import Author
from gyral.registry.store.specs import Key
from tests.services.registry.builders import NOW, REQUEST, a_run, a_stream

pytestmark = pytest.mark.live


@pytest.fixture
async def opened(pool):
    await migrate(pool, resources.files("gyral.registry") / "migrations", service="registry")
    return begin(pool, RegistryTx, service="registry")


def an_id(number):
    return f"00000000-0000-4000-8000-{number:012d}"


async def test_versions_come_newest_first_page_by_page(opened):
    async with opened() as tx:
        for number in range(1, 6):
            await tx.add_version(a_run(run_id=an_id(number)), number, Verdict(()), now=NOW)
        first = await tx.versions("churn", after=None, limit=2)
        second = await tx.versions("churn", after=first[-1].version, limit=2)
        third = await tx.versions("churn", after=second[-1].version, limit=2)
    assert [it.version for it in (*first, *second, *third)] == [5, 4, 3, 2, 1]


async def test_declarations_come_by_name_page_by_page(opened):
    async with opened() as tx:
        for name in ("c", "a-b", "b", "a"):
            await tx.declare_stream(a_stream(name), Author("tester", NOW, REQUEST))
        every = [it.name for it in await tx.all_declared("Stream")]
        first = await tx.all_declared("Stream", limit=3)
        rest = await tx.all_declared("Stream", after=first[-1].name, limit=3)
    assert [it.name for it in (*first, *rest)] == every
    assert sorted(every) == ["a", "a-b", "b", "c"]


async def test_keys_come_oldest_first_page_by_page_even_those_of_one_moment(opened):
    async with opened() as tx:
        for number in (3, 1, 2, 4):
            issued = NOW + timedelta(hours=number == 4)
            digest = f"{number:064d}"
            scopes = (Scope.READ,)
            key = Key(an_id(number), f"k{number}", 1, digest, scopes, None, None, revoked=False)
            await tx.add_key(key, now=issued)
        first = await tx.keys(after=None, limit=2)
        rest = await tx.keys(after=first[-1].key_id, limit=3)
        assert await tx.keys(after=an_id(99), limit=3) == []
    assert [it.name for it in (*first, *rest)] == ["k1", "k2", "k3", "k4"]
