"""A service as a process: it starts, says how it is, and ends with the right exit status."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

from gyral.testkit.waiting import until

pytestmark = pytest.mark.live


@pytest.fixture
def port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def environment(postgres_dsn, kafka_brokers, port, tmp_path):
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
        "KAFKA_BROKERS": kafka_brokers,
        "DATABASE": postgres_dsn,
        "HTTP_PORT": str(port),
        "STATE_DIR": str(tmp_path),
    }


async def start(environment):
    return await asyncio.create_subprocess_exec(
        sys.executable,
        Path(__file__).with_name("hello.py"),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )


async def ready(port):
    async with httpx.AsyncClient() as client:

        async def is_ready():
            try:
                answer = await client.get(f"http://127.0.0.1:{port}/health/ready")
            except httpx.TransportError:
                return False
            return answer.status_code == 200

        await until(is_ready, timeout_s=30)


async def test_it_serves_until_told_to_stop(environment, port):
    process = await start(environment)
    await ready(port)
    process.send_signal(signal.SIGTERM)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, errors
    assert b'"event": "service.stopped"' in errors


async def test_it_ends_with_a_failure_when_a_part_dies(environment, port, tmp_path):
    process = await start(environment)
    await ready(port)
    (tmp_path / "die").touch()
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert b"hello: look: expected it to run" in errors


async def test_it_waits_for_a_database_that_is_away(environment, port):
    process = await start(
        {**environment, "DATABASE": "postgresql://nobody:x@127.0.0.1:1/gyral"}
    )
    async with httpx.AsyncClient() as client:

        async def says_starting():
            try:
                answer = await client.get(f"http://127.0.0.1:{port}/health/ready")
            except httpx.TransportError:
                return False
            return answer.json()["reasons"] == ["starting"]

        await until(says_starting, timeout_s=30)
        assert (await client.get(f"http://127.0.0.1:{port}/health/live")).status_code == 200
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0


@pytest.mark.parametrize("taken", [True, False], ids=["port", "threads"])
async def test_it_refuses_to_start_in_one_line(taken, environment, port):
    with socket.socket() as listener:
        if taken:
            listener.bind(("127.0.0.1", port))
            listener.listen()
            wanted = f"hello: http: expected 127.0.0.1:{port} to be free".encode()
        else:
            environment["OMP_NUM_THREADS"] = ""
            wanted = b"OMP_NUM_THREADS: expected a number"
        process = await start(environment)
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith(wanted)
    assert b"Traceback" not in errors
