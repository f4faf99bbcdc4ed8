"""Where batches of rows are exchanged: a Unix socket, or a port that wants the service key."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

_LAST_PORT = 65535
_IDLE_S, _INTERVAL_S, _PROBES = 10, 5, 3
"""A machine that vanished without a word is found out within half a minute."""


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A file of this machine; who may open it may ask."""

    path: Path


@dataclass(frozen=True, slots=True)
class TcpPort:
    """A port of some machine; who asks there shows the service key first."""

    host: str
    port: int


DataAddress: TypeAlias = UnixSocket | TcpPort


def data_address(text: str) -> DataAddress:
    """Return what `unix:<path>` or `tcp:<host>:<port>` means.

    Raises:
        ValueError: it is neither.
    """
    scheme, _, where = text.partition(":")
    if scheme == "unix" and where.startswith("/"):
        return UnixSocket(Path(where))
    host, _, port = where.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    named = bare and (":" not in bare or bare != host)
    if scheme == "tcp" and named and port.isascii() and port.isdigit():
        number = int(port[:6])
        if 0 < number <= _LAST_PORT:
            return TcpPort(bare, number)
    raise ValueError(
        "expected `unix:<absolute path>` or `tcp:<host>:<port>`, such as"
        f" `unix:/run/gyral/runtime.sock` or `tcp:0.0.0.0:8109`; found {text[:120]!r}"
    )


def prepare(connection: socket.socket) -> None:
    """Have a TCP connection send at once, and break when the other machine has gone."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _IDLE_S),
        ("TCP_KEEPINTVL", _INTERVAL_S),
        ("TCP_KEEPCNT", _PROBES),
    ):
        if hasattr(socket, name):  # as Linux calls them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
