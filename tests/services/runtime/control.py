"""The runtime's control routes as `app.build` makes them, its versions from the cache alone."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from gyral.contracts.names import BlobRef
from gyral.kit.server import HttpServer
from gyral.runtime import app
from gyral.runtime.domain import Files, Flavour
from gyral.runtime.settings import Settings
from gyral.runtime.store import Cache
from gyral.testkit.onnx_models import VersionFiles
from gyral.testkit.processes import free_port
from gyral.testkit.torch_models import TorchFiles

KEY = "deployer"


def cached(folder: Path, slot: str, files: VersionFiles | TorchFiles) -> Files:
    """Leave a version in the cache, as a runtime that had loaded it would; return its files."""
    cache = Cache(folder)
    torch = isinstance(files, TorchFiles)
    refs = []
    for part in ("weights" if torch else "onnx", "manifest", "golden", *["code"][: int(torch)]):
        data: bytes = getattr(files, part)
        ref = BlobRef(key=part, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        cache.path(ref).write_bytes(data)
        refs.append(ref)
    cache.keep({slot: Files(*refs)})
    return Files(*refs)


@asynccontextmanager
async def controlled(
    folder: Path, *, max_models: int = 64, flavour: Flavour = Flavour.ONNX
) -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
    """Yield a client that holds the service key, and the application behind the server."""
    settings = Settings(
        state_dir=folder,
        runtime_listen=f"unix:{folder}/r.sock",
        service_key=SecretStr(KEY),
        runtime_max_models=max_models,
        runtime_flavour=flavour,
        s3_endpoint=f"http://127.0.0.1:{free_port()}",
    )
    service = app.build(settings)
    assert isinstance(service.api, FastAPI)
    for prepare in service.on_start:
        await prepare()
    service.health.started = True
    server = HttpServer(service.api, host="127.0.0.1", port=0)
    await server.start()
    headers = {"authorization": f"Bearer {KEY}"}
    url = f"http://127.0.0.1:{server.port}"
    try:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
            yield client, service.api
    finally:
        await server.stop()
