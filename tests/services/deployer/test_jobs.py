"""What the deployer makes of the runtime's answers, and what it has it hold: the real one."""

import asyncio
from datetime import timedelta

import httpx
import pytest
from pydantic import ValidationError

from gyral.contracts.deployment import RolloutAborted
from gyral.contracts.training import Artifacts
from gyral.deployer.domain.rollouts import Stage
from gyral.deployer.engine.backend import SHARED, Flavour
from gyral.deployer.engine.groups import Groups, Seat
from gyral.deployer.engine.runtimes import NotNowError, RefusedByRuntimeError, Runtime, Runtimes
from gyral.deployer.jobs.following import Addressing
from gyral.deployer.jobs.preparing import Preparation
from gyral.deployer.settings import Settings
from gyral.kit.changes import Changes
from gyral.kit.db import is_infrastructure
from gyral.kit.jobs import Jobs
from gyral.testkit.onnx_models import Logistic
from tests.services.deployer.builders import (
    KnownSpecs,
    answer,
    approved,
    nobody_wakes,
    reconcile,
)
from tests.services.registry.builders import NOW
from tests.services.runtime.control import cached, controlled

LATER = NOW + timedelta(hours=1)
ADDRESSES = ("unix:/run/gyral/runtime.sock", "unix:/run/gyral/two.sock")


def a_version(folder):
    """A version in the cache of a runtime, as its only one."""
    files = Logistic({"x": 0.5}, bias=0.1).files(({"x": 1.0}, {"x": -1.0}))
    known = cached(folder, "m@1", files)
    return Artifacts(
        onnx=known.model,
        manifest=known.manifest,
        golden=known.golden,
        profile=known.golden,
        evaluation=known.golden,
    )


async def claimed(jobs):
    """The only job that waits."""
    job = await jobs.claim("worker", 30)
    assert job is not None
    return job


async def test_a_full_runtime_says_nothing_of_the_version(tmp_path):
    artifacts = a_version(tmp_path)
    async with controlled(tmp_path, max_models=1) as (client, _):
        runtime = Runtime(client)
        with pytest.raises(NotNowError, match="RUNTIME_MAX_MODELS") as caught:
            await runtime.load("m@2", artifacts)
        assert is_infrastructure(caught.value)  # so the job is tried again, uncounted
        assert set(await runtime.held()) == {"m@1"}


async def test_other_bytes_for_a_loaded_version_are_a_refusal(tmp_path):
    artifacts = a_version(tmp_path)
    other = artifacts.onnx.model_copy(update={"sha256": "0" * 64})
    async with controlled(tmp_path, max_models=1) as (client, _):
        with pytest.raises(RefusedByRuntimeError, match="Unload it first"):
            await Runtime(client).load("m@1", artifacts.model_copy(update={"onnx": other}))


@pytest.mark.live
async def test_the_runtime_holds_what_routes_name_and_no_version_that_was_taken_back(
    deployer, tmp_path
):
    made = a_version(tmp_path)
    async with controlled(tmp_path) as (client, _):
        runtime = Runtime(client)
        for name in ("churn@1", "churn@2", "churn@3"):
            await runtime.load(name, made)
        await deployer.live(1, bootstrap=True, made=made)
        await deployer.live(2, made=made)
        await deployer.abort(2)
        await deployer.handlers.version_approved(approved(3, against=1, made=made))
        await reconcile(deployer, runtime, NOW)
        assert set(await runtime.held()) == {"m@1", "churn@1", "churn@2", "churn@3"}
        await reconcile(deployer, runtime, LATER)
        assert set(await runtime.held()) == {"m@1", "churn@1", "churn@3"}
        await deployer.go_live(3)
        await deployer.promote(3)
        await reconcile(deployer, runtime, LATER)
        assert set(await runtime.held()) == {"m@1", "churn@1", "churn@3"}
        await deployer.live(4, made=made)
        await reconcile(deployer, runtime, LATER)
        assert set(await runtime.held()) == {"m@1", "churn@3", "churn@4"}


@pytest.mark.live
async def test_a_version_stays_loaded_a_while_after_the_route_ceased_to_name_it(
    deployer, tmp_path
):
    """Its rollout ended long ago; a gateway may be pinned to it, or follow an older route."""
    made = a_version(tmp_path)
    async with controlled(tmp_path) as (client, _):
        runtime = Runtime(client)
        for version in (1, 2):
            await deployer.live(version, bootstrap=version == 1, made=made)
            await runtime.load(f"churn@{version}", made)
        await deployer.promote(2)
        await deployer.handlers.version_approved(approved(3, made=made))
        async with deployer.opened() as tx:
            await tx.go_live(await tx.rollout("churn", 3), deployer.around, LATER)
        for after_s, holds in ((2, True), (61, False)):
            deployer.now = LATER + timedelta(seconds=after_s)
            await reconcile(deployer, runtime, deployer.now)
            assert ("churn@1" in await runtime.held()) is holds


@pytest.mark.live
async def test_a_runtime_full_of_leftovers_has_room_again(deployer, tmp_path):
    made = a_version(tmp_path)
    async with controlled(tmp_path, max_models=3) as (client, _):
        runtime = Runtime(client)
        for version in (1, 2):
            await deployer.live(version, bootstrap=version == 1, made=made)
            await runtime.load(f"churn@{version}", made)
        await deployer.abort(2)
        with pytest.raises(NotNowError):
            await runtime.load("other@1", made)
        await reconcile(deployer, runtime, LATER)
        await runtime.load("other@1", made)


@pytest.mark.live
async def test_a_preparation_leaves_alone_what_gateways_may_still_ask(deployer, tmp_path):
    made = a_version(tmp_path)
    jobs = Jobs(deployer.pool, "prepare")
    async with controlled(tmp_path) as (client, _):
        runtime = Runtime(client)
        for version in (1, 2):
            await deployer.live(version, bootstrap=version == 1, made=made)
            await jobs.end(await claimed(jobs), "done")
            await runtime.load(f"churn@{version}", made)
        await deployer.abort(2)
        await deployer.handlers.version_approved(approved(3, against=1, made=made))
        prepare = Preparation(
            deployer.opened,
            jobs,
            Groups({"unix:/r": runtime}),
            KnownSpecs(),
            nobody_wakes,
            lambda: NOW,
            Changes(),
        )
        await prepare.run(await claimed(jobs))
        assert set(await runtime.held()) == {"m@1", "churn@1", "churn@2", "churn@3"}
    assert (await deployer.stage(3)).stage is Stage.SHADOW


class Made(Groups):
    """One runtime, as a backend that made it for a flavour tells of it."""

    async def seats(self):
        [(address, runtime)] = self.fixed.items()
        return {SHARED: (Seat(address, runtime, ready=True, name="m-0", flavour=Flavour.ONNX),)}


@pytest.mark.live
async def test_a_version_with_code_waits_until_its_runtimes_are_made_anew(deployer, tmp_path):
    made = a_version(tmp_path)
    made = made.model_copy(update={"code": made.golden})
    jobs = Jobs(deployer.pool, "prepare")
    await deployer.handlers.version_approved(approved(1, bootstrap=True, made=made))
    async with deployer.opened() as tx:
        assert await tx.of_torch() == {"churn"}
    job = await claimed(jobs)
    async with controlled(tmp_path) as (client, _):
        for groups, found in (
            (Made({"unix:/r": Runtime(client)}), "found onnx: they are made anew"),
            (Groups({"unix:/r": Runtime(client)}), None),
        ):
            prepare = Preparation(
                deployer.opened,
                jobs,
                groups,
                KnownSpecs(),
                nobody_wakes,
                lambda: NOW,
                Changes(),
            )
            if found is None:
                await prepare.run(job)
                continue
            with pytest.raises(NotNowError, match=found) as waits:
                await prepare.run(job)
            assert is_infrastructure(waits.value)
    [aborted] = await deployer.published(RolloutAborted)
    assert "found a version served as torch" in aborted.reason


async def test_what_one_of_two_runtimes_missed_it_is_told_when_it_is_back(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    made = a_version(first)
    async with controlled(first) as (here, _):
        async with controlled(second) as (gone, _):
            pass
        away = httpx.AsyncClient(base_url=gone.base_url)
        runtimes = Runtimes((Runtime(here), Runtime(away)))
        await runtimes.load("m@2", made)
        assert set(await Runtime(here).held()) == {"m@1", "m@2"}
        await away.aclose()
    nobody = Runtimes((Runtime(httpx.AsyncClient(base_url=gone.base_url)),) * 2)
    with pytest.raises(ConnectionError):
        await nobody.load("m@2", made)


async def test_what_one_runtime_refuses_is_refused(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    made = a_version(first)
    a_version(second)
    other = made.onnx.model_copy(update={"sha256": "0" * 64})
    async with controlled(first) as (one, _), controlled(second) as (two, _):
        runtimes = Runtimes((Runtime(one), Runtime(two)))
        with pytest.raises(RefusedByRuntimeError, match="Unload it first"):
            await runtimes.load("m@1", made.model_copy(update={"onnx": other}))


@pytest.mark.live
async def test_a_route_names_a_new_runtime_once_it_holds_all_that_the_route_names(
    deployer, tmp_path
):
    (one, two), (first, second) = ADDRESSES, (tmp_path / "first", tmp_path / "second")
    made = a_version(first)
    a_version(second)
    async with controlled(first) as (here, _), controlled(second) as (there, _):
        new = Runtime(there)
        addressing = addressing_of(deployer, {one: Runtime(here), two: new})
        await deployer.live(1, bootstrap=True, made=made)
        await addressing.run_once()
        assert (await routed(deployer)).runtimes == (one,)
        await new.load("churn@1", made)
        await addressing.run_once()
        now = await routed(deployer)
        assert (now.runtimes, now.epoch) == ((one, two), 2)
        await addressing.run_once()
        assert await routed(deployer) == now
        await addressing_of(deployer, {two: new}).run_once()
        assert (await routed(deployer)).runtimes == (two,)


@pytest.mark.live
async def test_a_step_under_way_goes_on_where_its_runtimes_are_others(deployer, tmp_path):
    one, two = ADDRESSES
    made = a_version(tmp_path)
    async with controlled(tmp_path) as (client, _):
        runtime = Runtime(client)
        for version in (1, 2):
            await deployer.live(version, bootstrap=version == 1, made=made)
            await runtime.load(f"churn@{version}", made)
        for number in range(3):
            await deployer.log(*both(number, epoch=2))
        await addressing_of(deployer, {one: runtime, two: runtime}).run_once()
    now = await routed(deployer)
    assert (now.runtimes, now.epoch) == ((one, two), 3)
    await deployer.log(*both(3, epoch=3), *both(4, epoch=3), day=1)
    assert (await deployer.stage(2)).stage is Stage.CANARY
    assert (await routed(deployer)).runtimes == (one, two)


@pytest.mark.live
async def test_a_runtime_that_does_not_answer_holds_up_no_route(
    deployer, tmp_path, monkeypatch
):
    monkeypatch.setattr("gyral.deployer.jobs.following._ASK_S", 0.2)
    one, two = ADDRESSES
    made, met = a_version(tmp_path), asyncio.Event()

    async def says_nothing(reader, writer):
        met.set()
        while await reader.read(1 << 16):
            continue
        writer.close()

    hanging = await asyncio.start_server(says_nothing, "127.0.0.1", 0)
    port = hanging.sockets[0].getsockname()[1]
    slow = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
    async with controlled(tmp_path) as (client, _), hanging, slow:
        runtime = Runtime(client)
        await deployer.live(1, bootstrap=True, made=made)
        await runtime.load("churn@1", made)
        async with asyncio.timeout(30):
            await addressing_of(deployer, {two: runtime, one: Runtime(slow)}).run_once()
        assert met.is_set()
        assert (await routed(deployer)).runtimes == (two, one)  # as before, and the other


def addressing_of(deployer, fixed):
    return Addressing(deployer.opened, Groups(fixed), KnownSpecs(), lambda: NOW, Changes())


def both(number, *, epoch):
    """One request, answered by the champion and copied to the shadow."""
    yield answer(number, version=1, epoch=epoch)
    yield answer(number, version=2, epoch=epoch, role="shadow")


async def routed(deployer):
    async with deployer.opened() as tx:
        return await tx.route("churn")


@pytest.mark.parametrize("told", ["http://h:1", "h:1=/r", "http://h:1=r", "http://h=/r,,x"])
def test_a_replica_that_is_no_pair_of_addresses_is_refused(told):
    with pytest.raises(ValidationError, match="expected `control address=data socket`"):
        a_setting(runtime_replicas=told)


def test_replicas_are_pairs_of_addresses():
    found = a_setting(runtime_replicas="http://127.0.0.1:8118=/run/2.sock,https://h=/3")
    assert found.runtimes == (
        ("http://h:1", "unix:/run/1.sock"),
        ("http://127.0.0.1:8118", "unix:/run/2.sock"),
        ("https://h", "unix:/3"),
    )


def a_setting(**more):
    return Settings.model_validate(
        {
            "kafka_brokers": "k:1",
            "database": "postgresql://u@h/d",
            "runtime_url": "http://h:1",
            "runtime_socket": "/run/1.sock",
            "service_key": "k",
            **more,
        }
    )


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"runtime_url": None}, "RUNTIME_URL: expected it beside"),
        ({"runtime_socket": None}, "RUNTIME_SOCKET: expected it beside"),
        (
            {"runtime_url": None, "runtime_socket": None},
            "RUNTIME_URL: expected .* since DEPLOYER_BACKEND is none",
        ),
        (
            {
                "deployer_backend": "process",
                "runtime_url": None,
                "runtime_socket": None,
                "runtime_replicas": "http://h:2=/2",
            },
            "RUNTIME_REPLICAS: expected it beside RUNTIME_URL only",
        ),
        ({"runtimes_min": 3}, "RUNTIMES_MAX: expected at least RUNTIMES_MIN, 3; found 1"),
        (
            {"deployer_backend": "kubernetes"},
            "KUBERNETES_IMAGE: expected the image of runtimes, since DEPLOYER_BACKEND is",
        ),
        ({"kubernetes_memory": "4 GB"}, "kubernetes_memory"),
        ({"kubernetes_namespace": "Gyral"}, "kubernetes_namespace"),
        (
            {"deployer_backend": "process", "deployer_sockets": "/" + "x" * 85},
            "DEPLOYER_SOCKETS: expected a path of at most 85 characters, .* found 86",
        ),
    ],
)
def test_settings_that_leave_a_model_without_runtimes_are_refused(told, problem):
    with pytest.raises(ValidationError, match=problem):
        a_setting(**told)


def test_a_deployer_that_makes_all_runtimes_is_told_of_none():
    made = a_setting(deployer_backend="process", runtime_url=None, runtime_socket=None)
    assert made.runtimes == ()
