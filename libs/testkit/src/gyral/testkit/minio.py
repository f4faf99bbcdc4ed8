"""MinIO, a second S3 server beside S3Proxy: built once by Go, run over a folder of its own."""

import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from pydantic import SecretStr

from gyral.local.instance import cache
from gyral.testkit.backends import S3Settings
from gyral.testkit.processes import NotUpError, free_port

_MODULE = "github.com/minio/minio"
_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
_BUILD_S = 1800
_UP_S = 60.0
_POLL_S = 0.05


def program() -> Path | None:
    """Return MinIO's program, built now if need be; None where there is neither it nor Go."""
    built = cache() / "minio" / _VERSION / "minio"
    found, go = shutil.which("minio"), shutil.which("go")
    if built.exists():
        return built
    if found is not None:
        return Path(found)
    if go is None:
        return None
    built.parent.mkdir(parents=True, exist_ok=True)
    with (built.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            _build(go, built)
    return built


@contextmanager
def running(binary: Path, folder: Path) -> Iterator[S3Settings]:
    """Yield where a server over this folder listens; it ends with the block."""
    port, secret = free_port(), secrets.token_hex(16)
    address = f"127.0.0.1:{port}"
    with (folder / "minio.log").open("ab") as log:
        process = subprocess.Popen(
            [binary, "server", folder / "data", "--address", address, "--quiet"],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "MINIO_ROOT_USER": "testkit",
                "MINIO_ROOT_PASSWORD": secret,
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _await_ready(process, f"http://{address}/minio/health/ready", folder / "minio.log")
        yield S3Settings(f"http://{address}", "testkit", SecretStr(secret), "gyral")
    finally:
        process.terminate()
        process.wait(timeout=30)


def _build(go: str, built: Path) -> None:
    with tempfile.TemporaryDirectory(dir=built.parent) as draft:
        answer = subprocess.run(
            [go, "install", f"{_MODULE}@{_VERSION}"],
            env={**os.environ, "GOBIN": draft},
            capture_output=True,
            text=True,
            check=False,
            timeout=_BUILD_S,
        )
        if answer.returncode != 0:
            raise NotUpError(f"go could not build {_MODULE}: {answer.stderr[-2000:]}")
        (Path(draft) / "minio").replace(built)


def _await_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + _UP_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(url, timeout=2).is_success:
                return
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)
    raise NotUpError(f"MinIO is not ready within {_UP_S} s: {log.read_text()[-2000:]}")
