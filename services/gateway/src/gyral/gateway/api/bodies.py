"""A request as raw ASGI brings it: headers, and a body read under a cap and a deadline."""

import asyncio

from starlette.types import Receive, Scope

from gyral.gateway.api.refusals import RefusedError
from gyral.kit.bodies import BODY_TIMEOUT_S
from gyral.kit.exchange import Exchange


class Request:
    """What the inference protocol needs of an ASGI request."""

    __slots__ = ("exchange", "headers", "method", "path", "receive")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.method: str = scope["method"]
        path: str = scope["path"]
        # An escaped slash separates nothing: such a path names nothing there is.
        raw_path = scope.get("raw_path", b"")
        escaped = b"%" in raw_path and b"%2f" in raw_path.lower()
        self.path = "" if escaped else path.removesuffix("/")
        self.receive = receive
        self.exchange = Exchange.of(receive)

    def expect(self, method: str) -> None:
        """Refuse another method.

        Raises:
            RefusedError: 405.
        """
        if self.method != method:
            raise RefusedError(405, f"expected {method}; found {self.method[:20]}")


async def read_body(request: Request, max_bytes: int) -> bytes | None:
    """Return the whole body, or None when the client has gone.

    Raises:
        RefusedError: 413 when it is longer than the cap, 408 when it takes too long, 415 when
            it is packed.
    """
    headers = request.headers
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise RefusedError(415, "content-encoding: expected none; send the body as it is")
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared[:20]) > max_bytes:
        raise _too_long(max_bytes)
    whole = request.exchange.whole_body() if request.exchange else None
    if whole is None:
        whole = await _read_pieces(request, max_bytes)
    if whole is not None and len(whole) > max_bytes:
        raise _too_long(max_bytes)
    return whole


def _too_long(max_bytes: int) -> RefusedError:
    return RefusedError(
        413, f"expected a body of at most {max_bytes} bytes; send fewer rows a request"
    )


async def _read_pieces(request: Request, max_bytes: int) -> bytes | None:
    """Return the whole body, or as much as is too long, or None when the client has gone."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > max_bytes or not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise RefusedError(
            408,
            f"expected the whole body within {BODY_TIMEOUT_S:g} s; found {len(body)} bytes",
        ) from None
