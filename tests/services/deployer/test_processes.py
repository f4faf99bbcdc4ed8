"""Runtimes as processes: they outlive who started them, are found again, and none is left."""

import asyncio
import os
import signal
import socket
import stat
import sys
import textwrap
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gyral.deployer.engine import launcher
from gyral.deployer.engine.backend import Flavour, GroupSpec
from gyral.deployer.engine.holding import Held, holder
from gyral.deployer.engine.processes import Processes, Surroundings
from gyral.kit.health import UnstartableError
from gyral.testkit.processes import free_port
from gyral.testkit.waiting import until

SECRET = "a-service-key-that-nobody-shows"
pytestmark = pytest.mark.timeout(120)


def around(**more):
    environment = {
        "PATH": os.environ["PATH"],
        "OMP_NUM_THREADS": "1",
        "S3_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        **more,
    }
    return Surroundings(environment, {"SERVICE_KEY": SECRET}, {})


SAME = around()


class Backend:
    """A backend, and what it says whenever something changed."""

    def __init__(self, folder, surroundings=SAME):
        self.news = asyncio.Event()
        self.made = Processes(folder / "deployer", folder, surroundings, self.news.set)
        self.folder = folder / "deployer" / "groups"

    async def until(self, group, ready):
        """Return the group's members once so many are ready, and no others are there."""
        while True:
            self.news.clear()
            members = (await self.made.groups()).get(group, ())
            if [each.ready for each in members] == [True] * ready:
                return members
            async with asyncio.timeout(60):
                await self.news.wait()

    async def renewed(self, group, pid):
        """Return the group's members once its only one is ready, and another process."""
        while True:
            self.news.clear()
            members = (await self.made.groups())[group]
            if members[0].ready and self.pid(group) not in {None, pid}:
                return members
            async with asyncio.timeout(60):
                await self.news.wait()

    async def gone(self):
        """Return once all groups were removed, and nothing of them is left."""
        while True:
            self.news.clear()
            for group in await self.made.groups():
                await self.made.remove(group)
            if not await self.made.groups():
                return
            async with asyncio.timeout(60):
                await self.news.wait()

    def pid(self, group, number=0):
        return holder(self.folder / group / str(number) / "lock")


@asynccontextmanager
async def a_backend(folder, surroundings=SAME, *, ends=True):
    backend = Backend(folder, surroundings)
    await backend.made.start()
    try:
        yield backend
        if ends:
            await backend.gone()
    finally:
        await backend.made.stop()
        if ends:
            for lock in backend.folder.glob("*/*/lock"):
                if (pid := holder(lock)) is not None:
                    os.killpg(pid, signal.SIGKILL)


async def ended(lock, pid):
    held = Held.of(lock)
    if held is not None and held.pid == pid:
        await held.ended()
        held.close()


async def test_a_group_has_as_many_runtimes_as_wanted_each_with_its_own_places(tmp_path):
    async with a_backend(tmp_path) as backend:
        await backend.made.ensure(GroupSpec("m", 2))
        first, second = await backend.until("m", 2)
        assert (first.name, second.name) == ("m-0", "m-1")
        assert len({first.control, second.control}) == len({first.data, second.data}) == 2
        assert all(map(is_there, (first, second)))
        assert backend.made.entry("m") == first.data
        await backend.made.ensure(GroupSpec("m", 2))
        assert await backend.until("m", 2) == (first, second)
        await backend.made.ensure(GroupSpec("m", 1))
        assert await backend.until("m", 1) == (first,)
        last = backend.folder / "m" / "1" / "lock"
        if (pid := holder(last)) is not None:
            await ended(last, pid)
        await backend.made.ensure(GroupSpec("m", 2))
        assert [each.data for each in await backend.until("m", 2)] == [first.data, second.data]
    assert list(backend.folder.glob("*/*/lock")) == []


async def test_a_runtime_outlives_the_deployer_and_the_next_one_finds_it(tmp_path):
    async with a_backend(tmp_path, ends=False) as backend:
        await backend.made.ensure(GroupSpec("m", 2))
        before = await backend.until("m", 2)
        pids = [backend.pid("m", number) for number in (0, 1)]
    async with a_backend(tmp_path) as backend:
        assert await backend.until("m", 2) == before
        assert [backend.pid("m", number) for number in (0, 1)] == pids
        await backend.made.ensure(GroupSpec("m", 2))
        assert [backend.pid("m", number) for number in (0, 1)] == pids


async def test_a_runtime_that_crashes_is_started_anew_at_its_address(tmp_path):
    async with a_backend(tmp_path) as backend:
        await backend.made.ensure(GroupSpec("m", 1))
        [before] = await backend.until("m", 1)
        for _ in range(2):
            pid = backend.pid("m")
            os.kill(pid, signal.SIGKILL)
            [again] = await backend.renewed("m", pid)
            assert (again.name, again.data) == (before.name, before.data)


async def test_one_that_crashed_while_nobody_looked_is_started_by_the_next_deployer(tmp_path):
    async with a_backend(tmp_path, ends=False) as backend:
        await backend.made.ensure(GroupSpec("m", 1))
        await backend.until("m", 1)
    pid = backend.pid("m")
    os.kill(pid, signal.SIGKILL)
    await ended(backend.folder / "m" / "0" / "lock", pid)
    async with a_backend(tmp_path) as backend:
        assert await backend.made.groups() == {"m": ()}
        await backend.made.ensure(GroupSpec("m", 1))
        await backend.until("m", 1)


async def test_a_group_that_nobody_wants_any_more_ends_with_all_it_had(tmp_path):
    async with a_backend(tmp_path, ends=False) as backend:
        await backend.made.ensure(GroupSpec("m", 1))
        await backend.until("m", 1)
    async with a_backend(tmp_path, ends=False) as backend:
        await backend.until("m", 1)
        held = Held.of(backend.folder / "m" / "0" / "lock")
        assert held is not None
        await backend.gone()
        await held.ended()
        held.close()
        await backend.made.remove("never-there")
        assert not (backend.folder / "m").exists()


async def test_what_is_ended_while_it_starts_does_not_stay(tmp_path):
    async with a_backend(tmp_path, ends=False) as backend:
        await backend.made.ensure(GroupSpec("m", 1))
        await asyncio.wait({asyncio.create_task(backend.made.groups())})  # its keeper begins
        await backend.gone()
        assert holder(backend.folder / "m" / "0" / "lock") is None


async def test_a_runtime_that_was_told_otherwise_is_renewed_in_good_order(tmp_path):
    async with a_backend(tmp_path, ends=False) as backend:
        await backend.made.ensure(GroupSpec("m", 1))
        [before] = await backend.until("m", 1)
        pid = backend.pid("m")
    async with a_backend(tmp_path, around(RUNTIME_MAX_MODELS="7")) as backend:
        await backend.made.ensure(GroupSpec("m", 1))
        [again] = await backend.renewed("m", pid)
        assert again.data == before.data
        assert b"RUNTIME_MAX_MODELS=7" in told(backend.pid("m"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_secrets_are_in_files_of_their_owner_alone(tmp_path):
    async with a_backend(tmp_path, around(GYRAL_PROCESS="an-instance/deployer")) as backend:
        await backend.made.ensure(GroupSpec("m", 1))
        await backend.until("m", 1)
        pid = backend.pid("m")
        assert SECRET.encode() not in told(pid)
        assert SECRET.encode() not in told(pid, "cmdline")
        assert b"GYRAL_PROCESS=an-instance/deployer" in told(pid)
        secrets = tmp_path / "deployer" / "secrets"
        assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
        [file] = secrets.iterdir()
        assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (SECRET, 0o600)


def told(pid, what="environ"):
    return Path(f"/proc/{pid}/{what}").read_bytes()


def is_there(member):
    return Path(member.data.removeprefix("unix:")).is_socket()


async def test_a_start_that_a_dead_deployer_left_is_found_before_its_group_is_forgotten(
    tmp_path,
):
    """It took the folder after the next deployer had looked for processes."""
    async with a_backend(tmp_path) as backend:
        folder = backend.folder / "m" / "0"
        folder.mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            number = listener.fileno()
            late = await asyncio.create_subprocess_exec(
                *(sys.executable, "-S", "-E", launcher.__file__, str(folder)),
                *("/bin/sleep", "600"),
                env={"HTTP_LISTEN_FD": str(number)},
                pass_fds=[number],
            )
            assert await late.wait() == 0
        held = Held.of(folder / "lock")
        assert held is not None
        await backend.gone()
        await held.ended()
        held.close()


async def test_a_second_deployer_is_kept_from_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("gyral.deployer.engine.processes._PATIENCE_S", 0.05)
    async with a_backend(tmp_path):
        with pytest.raises(UnstartableError, match="expected no other process to use"):
            await Backend(tmp_path).made.start()


async def test_a_folder_never_has_two_processes(tmp_path):
    """Two launchers at once: one leaves a process, the other says that it is held."""
    held = [sys.executable, "-S", "-E", launcher.__file__, str(tmp_path), "/bin/cat"]
    reading, writing = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        env = {"HTTP_LISTEN_FD": str(number)}
        launched = [
            await asyncio.create_subprocess_exec(
                *held, stdin=reading, env=env, pass_fds=[number]
            )
            for _ in range(2)
        ]
        statuses = sorted([await each.wait() for each in launched])
        port = listener.getsockname()[1]
    assert statuses == [0, launcher.HELD]
    assert int((tmp_path / "port").read_text()) == port
    found = Held.of(tmp_path / "lock")
    assert found is not None
    os.close(writing)  # cat ends with its input
    await found.ended()
    found.close()
    assert holder(tmp_path / "lock") is None


@pytest.mark.parametrize("wait_for", ["started", "lock"])
async def test_a_deployer_killed_at_any_moment_leaves_nothing_that_is_not_found(
    tmp_path, wait_for
):
    """It is killed before and after its runtime holds the folder; twice each."""
    code = textwrap.dedent(
        f"""
        import asyncio, sys
        from pathlib import Path
        from gyral.deployer.engine.backend import GroupSpec
        from gyral.deployer.engine.processes import Processes, Surroundings

        async def main():
            folder = Path(sys.argv[1])
            around = Surroundings({dict(SAME.environment)!r}, {dict(SAME.secrets)!r}, {{}})
            made = Processes(folder / "deployer", folder, around)
            await made.start()
            await made.ensure(GroupSpec("m", 1))
            print("now", flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
        """
    )
    lock = tmp_path / "deployer" / "groups" / "m" / "0" / "lock"
    for _ in range(2):
        deployer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(tmp_path), stdout=asyncio.subprocess.PIPE
        )
        assert deployer.stdout is not None
        assert await deployer.stdout.readline() == b"now\n"
        if wait_for == "lock":
            await until(lambda: holder(lock) is not None)
        deployer.kill()
        await deployer.wait()
    async with a_backend(tmp_path) as backend:
        await backend.made.ensure(GroupSpec("m", 1))
        await backend.until("m", 1)


async def test_a_runtime_that_is_to_compute_something_else_is_made_anew(tmp_path):
    told = {flavour: {"RUNTIME_FLAVOUR": flavour} for flavour in Flavour}
    surroundings = replace(SAME, by_flavour=told)
    async with a_backend(tmp_path, surroundings) as backend:
        await backend.made.ensure(GroupSpec("m", 1))
        [member] = await backend.until("m", 1)
        pid = holder(backend.folder / "m" / "0" / "lock")
        assert (member.flavour, environment(pid)["RUNTIME_FLAVOUR"]) == (Flavour.ONNX, "onnx")
        await backend.made.ensure(GroupSpec("m", 1, Flavour.TORCH))
        [member] = await backend.renewed("m", pid)
        again = holder(backend.folder / "m" / "0" / "lock")
        assert member.flavour is Flavour.TORCH
        assert environment(again)["RUNTIME_FLAVOUR"] == "torch"


def environment(pid):
    lines = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(line.decode().split("=", 1) for line in lines if line)
