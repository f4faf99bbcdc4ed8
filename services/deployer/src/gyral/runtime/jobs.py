"""The data side: batches from gateways, computed in a thread each, answered in order."""

import asyncio
import secrets
import socket
import socketserver
import threading
import time
from contextlib import suppress
from pathlib import Path

from gyral.kit.frames import Batch, FrameError, FrameReader, Kind, batch_of, packed
from gyral.kit.frames import Frame as Received
from gyral.kit.health import UnstartableError
from gyral.kit.proofs import NONCE_BYTES, PROOF_BYTES, Side, proof, proven
from gyral.kit.sockets import DataAddress, TcpPort, UnixSocket, prepare
from gyral.kit.telemetry import get_log
from gyral.runtime.engine import PredictionError
from gyral.runtime.engine.shelf import NotLoadedError, Shelf

_RECEIVE_BYTES = 1 << 18
_HELLO_BYTES = 9 + NONCE_BYTES + PROOF_BYTES
_HELLO_S = 3.0
_STRANGERS = 64
log = get_log()


class Door:
    """Lets in over TCP who knows the service key and shows so at once, and shows it too.

    Others cost little, and not for long. The key itself is said by nobody.

    Of more strangers than it has room for, the one that has been silent longest is put out.
    """

    def __init__(
        self, key: str, *, strangers: int = _STRANGERS, wait_s: float = _HELLO_S
    ) -> None:
        self._key = key
        self._room = strangers
        self._wait_s = wait_s
        self._strangers: dict[socket.socket, float] = {}
        self._lock = threading.Lock()

    def met(self, peer: socket.socket) -> None:
        """Give a new connection its time to show that it knows the key."""
        with self._lock:
            while len(self._strangers) >= self._room:
                longest = next(iter(self._strangers))
                del self._strangers[longest]
                with suppress(OSError):
                    longest.shutdown(socket.SHUT_RDWR)
            self._strangers[peer] = time.monotonic() + self._wait_s

    def left(self, peer: socket.socket) -> None:
        """Forget a connection that is about to be closed."""
        with self._lock:
            self._strangers.pop(peer, None)

    def lets_in(self, peer: socket.socket) -> bool:
        """Return True once each has shown the other that it knows the key.

        False: the peer is to be hung up on.
        """
        with self._lock:
            late = self._strangers.get(peer, 0.0)
        ours = secrets.token_bytes(NONCE_BYTES)
        try:
            peer.settimeout(self._wait_s)
            peer.sendall(packed(0, Kind.HELLO, ours))
            given = _hello(peer, late)
        except (FrameError, OSError):
            return False
        finally:
            self.left(peer)
        if given is None:
            return False
        theirs, shown = given[:NONCE_BYTES], given[NONCE_BYTES:]
        if not proven(shown, self._key, Side.GATEWAY, ours, theirs):
            why = (
                b"SERVICE_KEY: expected the service key of this runtime; found another. Give"
                b" the gateway the same key as the runtime"
            )
            with suppress(OSError):
                peer.sendall(packed(0, Kind.FAILED, why))
            return False
        peer.settimeout(None)
        peer.sendall(packed(0, Kind.HELLO, proof(self._key, Side.RUNTIME, ours, theirs)))
        return True


def _hello(peer: socket.socket, late: float) -> bytes | None:
    """Return a peer's nonce and proof, its first frame, or None when it is something else."""
    reader, room = FrameReader(), _HELLO_BYTES
    while room > 0:
        peer.settimeout(max(late - time.monotonic(), 0.001))
        data = peer.recv(room)
        if not data:
            return None
        room -= len(data)
        for frame in reader.feed(data):
            whole = len(frame.payload) == NONCE_BYTES + PROOF_BYTES
            return frame.payload if frame.kind is Kind.HELLO and whole else None
    return None


class _Connection(socketserver.BaseRequestHandler):
    """One gateway: blocking reads, so a batch costs two system calls and no event loop."""

    request: socket.socket
    server: "_Server"

    def setup(self) -> None:
        """Share the way back with what is answered later."""
        self._sending = threading.Lock()

    def handle(self) -> None:
        """Answer frames until the gateway hangs up or stops making sense."""
        reader = FrameReader()
        with suppress(ConnectionError, TimeoutError):
            if not self.server.lets_in(self.request):
                return
            while data := self.request.recv(_RECEIVE_BYTES):
                try:
                    for frame in reader.feed(data):
                        self._take(frame)
                except FrameError as error:
                    log.error("gateway.dropped", reason=str(error))  # noqa: TRY400 - no stack
                    return

    def _take(self, frame: Received) -> None:
        """Answer at once, unless the version must be woken: nobody else waits for that."""
        batch = batch_of(frame)
        if not batch.requests or self.server.shelf.awake(batch.slot):
            self._answer(frame.batch_id, batch)
        else:
            self.server.shelf.loading.submit(self._answer_later, frame.batch_id, batch)

    def _answer_later(self, batch_id: int, batch: Batch) -> None:
        try:
            with suppress(OSError):  # the gateway is gone, and asks again
                self._answer(batch_id, batch)
        except Exception:
            log.exception("batch.broke_off", slot=batch.slot)
            with suppress(OSError):
                self.request.shutdown(socket.SHUT_RDWR)

    def _answer(self, batch_id: int, batch: Batch) -> None:
        kind, payload = self._answered(batch)
        with self._sending:
            self.request.sendall(packed(batch_id, kind, payload))

    def _answered(self, batch: Batch) -> tuple[Kind, bytes]:
        try:
            return Kind.PROBABILITIES, self.server.shelf.answer(batch)
        except NotLoadedError as error:
            return Kind.NOT_LOADED, str(error).encode()
        except PredictionError as error:
            log.warning("batch.failed", slot=batch.slot, reason=str(error))
            return Kind.FAILED, str(error).encode()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A thread for each connection; onnxruntime computes without the interpreter lock."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    shelf: Shelf

    def lets_in(self, peer: socket.socket) -> bool:  # noqa: ARG002
        """True: who may open the socket may ask."""
        return True

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Log a handler's bug; the connection is gone, and its gateway asks again."""
        log.exception("connection.failed")  # noqa: LOG004 - called inside one


class _UnixServer(_Server):
    """Asked through a file that only its owner may open."""

    address_family = socket.AF_UNIX

    def __init__(self, path: Path, shelf: Shelf) -> None:
        self.shelf = shelf
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # a killed process left it behind
        super().__init__(str(path), _Connection)  # type: ignore[arg-type]  # of its family
        path.chmod(0o600)

    def server_close(self) -> None:
        """Close the socket, and take its file away."""
        super().server_close()
        self._path.unlink(missing_ok=True)


class _TcpServer(_Server):
    """Asked through a port, by who knows the service key."""

    allow_reuse_address = True

    def __init__(self, address: TcpPort, shelf: Shelf, door: Door) -> None:
        self.shelf = shelf
        self._door = door
        if ":" in address.host:
            self.address_family = socket.AF_INET6
        super().__init__((address.host, address.port), _Connection)

    def lets_in(self, peer: socket.socket) -> bool:
        """Ask for the key."""
        return self._door.lets_in(peer)

    def process_request(self, request: object, client_address: object) -> None:
        """Give the peer a thread, in which it is to show that it knows the key."""
        assert isinstance(request, socket.socket)  # noqa: S101 - as of every stream server
        prepare(request)
        self._door.met(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: object) -> None:
        """Hang up."""
        assert isinstance(request, socket.socket)  # noqa: S101 - as of every stream server
        self._door.left(request)
        super().shutdown_request(request)


class DataServer:
    """The socket that gateways ask for predictions."""

    def __init__(self, address: DataAddress, shelf: Shelf, door: Door) -> None:
        self._address = address
        self._shelf = shelf
        self._door = door
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            UnstartableError: the system does not let it.
        """
        try:
            self._server = self._bound()
        except OSError as error:
            raise UnstartableError(
                f"RUNTIME_LISTEN: expected to listen there; found {error.strerror or error}"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="data", kwargs={"poll_interval": 0.1}
        )
        self._thread.daemon = True
        self._thread.start()

    async def stop(self) -> None:
        """Accept no more connections and close the socket."""
        if self._server is not None:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()

    def _bound(self) -> _Server:
        match self._address:
            case UnixSocket(path):
                return _UnixServer(path, self._shelf)
            case TcpPort() as port:
                return _TcpServer(port, self._shelf, self._door)

    def healthy(self) -> str | None:
        """Answer None while it listens."""
        if self._thread is None or not self._thread.is_alive():
            return "data socket: expected it to listen; found its thread ended"
        return None
