"""HTTP/1.1 over kept connections, and no more of it than talking to our own services takes.

A replay asks tens of thousands of small questions: a general client's own work per request
would be most of what it measures.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlencode, urlsplit

_LARGEST_HEAD = 1 << 16
_NO_BODY = frozenset({204, 304})
_OK = range(200, 300)


class WireError(Exception):
    """No whole answer came: refused, cut off, too late, or no HTTP."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """True for 2xx."""
        return self.status in _OK


@dataclass(frozen=True, slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def usable(self) -> bool:
        """False once the server has closed it, as it does with idle ones."""
        return not (self.reader.at_eof() or self.writer.is_closing())


@dataclass(slots=True)
class Pool:
    """Connections to one address.

    Args:
        url: `http://host:port` or `https://...`.
        headers: sent with every request.
        size: most requests under way at once.
        timeout_s: longest time for one answer.
    """

    url: str
    headers: Mapping[str, str]
    size: int = 16
    timeout_s: float = 60.0
    _idle: list[_Connection] = field(default_factory=list)
    _places: asyncio.Semaphore | None = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int | float] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return the answer to one request.

        Raises:
            WireError: there is none; whether the request took effect is not known.
        """
        if self._places is None:
            self._places = asyncio.Semaphore(self.size)
        where = urlsplit(self.url)
        target = where.path + path + (f"?{urlencode(params)}" if params else "")
        lines = {"host": where.netloc, **self.headers, **(headers or {})}
        if content is not None:
            lines["content-length"] = str(len(content))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        message = f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1")
        try:
            async with self._places, asyncio.timeout(self.timeout_s):
                return await self._exchange(where, message + (content or b""))
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise WireError(f"{type(error).__name__} {error}".strip()) from error

    async def aclose(self) -> None:
        """Close every connection."""
        for each in self._idle:
            each.writer.close()
        self._idle.clear()

    async def _exchange(self, where: SplitResult, message: bytes) -> Response:
        connection = await self._connection(where)
        keep = False
        try:
            connection.writer.write(message)
            response = await _read(connection.reader)
            keep = response.headers.get("connection", "").lower() != "close"
        finally:
            if keep:
                self._idle.append(connection)
            else:
                connection.writer.close()
        return response

    async def _connection(self, where: SplitResult) -> _Connection:
        while self._idle:
            known = self._idle.pop()
            if known.usable:
                return known
            known.writer.close()
        secure = ssl.create_default_context() if where.scheme == "https" else None
        port = where.port or (443 if secure else 80)
        return _Connection(
            *await asyncio.open_connection(
                where.hostname, port, ssl=secure, limit=_LARGEST_HEAD
            )
        )


async def _read(reader: asyncio.StreamReader) -> Response:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")[:-2]
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    status = int(first.split(" ", 2)[1])
    return Response(status, headers, await _body(reader, status, headers))


async def _body(reader: asyncio.StreamReader, status: int, headers: Mapping[str, str]) -> bytes:
    if status in _NO_BODY:
        return b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        parts = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return b"".join(parts)
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read()
