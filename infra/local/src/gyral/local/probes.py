"""Asks a process whether it is well, over a loopback socket and without starting anything."""

import asyncio
import struct
from contextlib import suppress
from urllib.parse import urlsplit

from gyral.local.compose import Probe, Protocol

_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 7, -1)
"""Kafka's ApiVersions request: size, key, version 0, correlation id 7, no client id."""
_SASL = b"R"


async def well(probe: Probe, timeout_s: float) -> bool:
    """Return whether the process answers as a well one does, within the time."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _ask(probe)
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False


async def _ask(probe: Probe) -> bool:
    url = urlsplit(probe.target if probe.protocol is Protocol.HTTP else f"//{probe.target}")
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        match probe.protocol:
            case Protocol.TCP:
                return True
            case Protocol.HTTP:
                return await _http(reader, writer, url.netloc, url.path or "/")
            case Protocol.KAFKA:
                return await _kafka(reader, writer)
            case Protocol.POSTGRES:
                return await _postgres(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _http(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str
) -> bool:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    status = await reader.readline()
    return status.split(b" ")[1:2] == [b"200"]


async def _kafka(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(_API_VERSIONS)
    size, correlation, error = struct.unpack(">iih", await reader.readexactly(10))
    return size > 0 and (correlation, error) == (7, 0)


async def _postgres(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    # In recovery it accepts connections too and answers 'E': only asking for a password counts.
    body = struct.pack(">i", 196608) + b"user\0postgres\0database\0postgres\0\0"
    writer.write(struct.pack(">i", len(body) + 4) + body)
    return await reader.readexactly(1) == _SASL
