"""All services at one address, answering a command line what a test has written down."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson

from gyral.client.addresses import SERVICES

NOBODY = {
    "error": {"code": "not_found", "message": "model m: expected a known one; found none"}
}


@contextmanager
def served(answers: Mapping[str, object]) -> Iterator[Mapping[str, str]]:
    """Answer each path with its JSON, any other with 404; give what makes a client ask here."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            known = path in answers
            body = orjson.dumps(answers[path] if known else NOBODY)
            self.send_response(200 if known else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        addresses = {f"GYRAL_{service.upper()}_URL": url for service in SERVICES}
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield {"GYRAL_API_KEY": "k", **addresses}
        finally:
            server.shutdown()
            thread.join()
