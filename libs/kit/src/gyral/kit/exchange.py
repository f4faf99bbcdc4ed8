"""A request and its answer in one piece each: what ASGI's messages cost, a hot path saves."""

from typing import Self

from starlette.types import Receive
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

Headers = list[tuple[bytes, bytes]]


class Exchange:
    """uvicorn's own state of one request, read and written as its ASGI calls do."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    @classmethod
    def of(cls, receive: Receive) -> Self | None:
        """Return the exchange whose body this receives, or None where uvicorn does not serve.

        It is found so, and not put into the scope: a cycle of references would be garbage that
        only the collector takes away.
        """
        cycle = getattr(receive, "__self__", None)
        return cls(cycle) if isinstance(cycle, RequestResponseCycle) else None

    def whole_body(self) -> bytes | None:
        """Return the body when all of it has come, else None: then ask for its messages."""
        cycle = self._cycle
        if cycle.more_body or cycle.disconnected:
            return None
        return bytes(cycle.body)

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Write a whole answer at once; headers are taken as they are, so be sure of them."""
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        parts = [STATUS_LINE[status]]
        for name, value in (*cycle.default_headers, *headers):
            if name == b"connection":  # it only ever says close
                cycle.keep_alive = False
                continue
            parts += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"content-length: %d\r\n\r\n" % len(body), body)
        cycle.transport.write(b"".join(parts))
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
