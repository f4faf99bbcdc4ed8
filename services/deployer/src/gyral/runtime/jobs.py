"""The data side: batches from gateways, computed in a thread each, answered in order."""

import asyncio
import socket
import socketserver
import threading
from contextlib import suppress
from pathlib import Path

from gyral.kit.frames import Batch, FrameError, FrameReader, Kind, batch_of, packed
from gyral.kit.frames import Frame as Received
from gyral.kit.telemetry import get_log
from gyral.runtime.engine import PredictionError
from gyral.runtime.engine.shelf import NotLoadedError, Shelf

_RECEIVE_BYTES = 1 << 18
log = get_log()


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
        with suppress(ConnectionError):
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


class _Server(socketserver.ThreadingUnixStreamServer):
    """A thread for each connection; onnxruntime computes without the interpreter lock."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, path: Path, shelf: Shelf) -> None:
        self.shelf = shelf
        super().__init__(str(path), _Connection)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Log a handler's bug; the connection is gone, and its gateway asks again."""
        log.exception("connection.failed")  # noqa: LOG004 - called inside one


class DataServer:
    """The socket that gateways ask for predictions."""

    def __init__(self, path: Path, shelf: Shelf) -> None:
        self._path = path
        self._shelf = shelf
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Listen; a socket that a killed process left behind is replaced."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._server = _Server(self._path, self._shelf)
        self._path.chmod(0o600)
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
            self._path.unlink(missing_ok=True)

    def healthy(self) -> str | None:
        """Answer None while it listens."""
        if self._thread is None or not self._thread.is_alive():
            return "data socket: expected it to listen; found its thread ended"
        return None
