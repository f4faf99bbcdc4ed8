"""A Kubernetes cluster as far as the deployer uses one: API server, controllers, kubelet.

What the API server takes it holds against Kubernetes' own schemas; pods are real processes,
each on a loopback address of its own.
"""

import asyncio
import datetime as dt
import ipaddress
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .kubelet import Kubelet, Volumes
from .objects import POD, Object, Objects
from .server import Access, ApiServer

T = TypeVar("T")


@dataclass
class Cluster:
    """A cluster in a thread of its own, and how to reach it."""

    api: ApiServer
    kubelet: Kubelet
    credentials: Path
    token: str
    port: int
    loop: asyncio.AbstractEventLoop

    @property
    def objects(self) -> Objects:
        return self.api.objects

    def lose(self, pod: str) -> None:
        """Have a pod be gone with all it had, as when its machine is."""
        for kind, namespace, name in list(self.objects.kept):
            if kind is POD and name == pod:
                self.kubelet.kill(name)
                self.objects.drop(kind, namespace, name)

    def do(self, what: Callable[..., T], *args: Any) -> T:
        """Do something where the cluster lives, between two of its own steps."""

        async def done() -> T:
            return what(*args)

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(30)


@contextmanager
def a_cluster(
    folder: Path, *, namespace: str, rules: list[Object], volumes: Volumes, port: int = 0
) -> Iterator[Cluster]:
    """Yield a running cluster with one namespace, in which a Role lets the deployer in."""
    credentials = folder / "credentials"
    credentials.mkdir()
    token = "token-of-the-deployer"
    (credentials / "token").write_text(token)
    certificate, key = _certificates(credentials)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="cluster")
    thread.start()
    listener = socket.create_server(("127.0.0.1", port))

    async def start() -> tuple[Cluster, uvicorn.Server, list["asyncio.Task[None]"]]:
        objects = Objects({namespace})
        pods = folder / "pods"
        pods.mkdir()
        kubelet = Kubelet(objects, volumes, pods, _addresses())
        kubelet.drained.set()
        objects.changed = kubelet.wake
        api = ApiServer(objects, Access({token}, namespace, rules))
        config = uvicorn.Config(
            api.app(),
            ssl_certfile=str(certificate),
            ssl_keyfile=str(key),
            log_level="critical",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        tasks = [
            asyncio.create_task(server._serve([listener])),  # noqa: SLF001 - no signal handlers
            asyncio.create_task(kubelet.run()),
        ]
        where = listener.getsockname()[1]
        return Cluster(api, kubelet, credentials, token, where, loop), server, tasks

    async def end(server: uvicorn.Server, tasks: list["asyncio.Task[None]"]) -> None:
        server.should_exit = True
        server.force_exit = True
        await tasks[0]
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.wait(rest)

    cluster, server, tasks = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    try:
        yield cluster
        tasks[1].cancelled() or cluster.do(lambda: tasks[1].done() and tasks[1].result())
    finally:
        asyncio.run_coroutine_threadsafe(end(server, tasks), loop).result(30)
        cluster.kubelet.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
        listener.close()


def _addresses() -> Iterator[str]:
    """Yield loopback addresses that no other test has."""
    rng = random.SystemRandom()
    net = f"127.{rng.randrange(64, 256)}.{rng.randrange(256)}"
    return (f"{net}.{number}" for number in range(2, 255))


def _certificates(folder: Path) -> tuple[Path, Path]:
    """Write the cluster's CA where pods find it, and return the API server's certificate."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])

    def signed(subject: x509.Name, public: ec.EllipticCurvePublicKey, *more: Any) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )
        for extension in more:
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    ca = signed(ca_name, ca_key.public_key(), x509.BasicConstraints(ca=True, path_length=None))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    leaf = signed(name, key.public_key(), x509.SubjectAlternativeName([address]))
    (folder / "ca.crt").write_bytes(ca)
    server = folder / "server.pem", folder / "server.key"
    server[0].write_bytes(leaf)
    server[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return server
