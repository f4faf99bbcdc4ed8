"""A tiny service: serves /ready and /live, and notes when it started and stopped."""

import os
import signal
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

NAME = sys.argv[1]
UNREADY_ANSWERS = int(os.environ.get("UNREADY_ANSWERS", "0"))
"""How often /ready is refused before it is granted."""


def note(what: str) -> None:
    with Path(os.environ["NOTES"]).open("a") as notes:
        notes.write(f"{NAME} {what}\n")


class Answers(BaseHTTPRequestHandler):
    asked_ready = 0
    broken = False

    def do_GET(self) -> None:
        if self.path == "/break":
            Answers.broken = True
        if self.path == "/ready":
            Answers.asked_ready += 1
            well = Answers.asked_ready > UNREADY_ANSWERS and not Answers.broken
        else:
            well = True
        if self.path == "/live" and Answers.broken:
            note("asked whether it lives")
        self.send_response(200 if well else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
        pass


def stop(_number: int, _frame: object) -> None:
    note(f"stopped {os.getpid()}")
    sys.exit(0)


def main() -> None:
    signal.signal(signal.SIGTERM, stop)
    note(f"started {os.getpid()}")
    if "WITH_CHILDREN" in os.environ:
        idle = [sys.executable, "-c", "import signal; signal.pause()"]
        note(f"child {subprocess.Popen(idle).pid}")
        note(f"stray {subprocess.Popen(idle, start_new_session=True).pid}")
    server = HTTPServer(
        ("127.0.0.1", int(os.environ["HTTP_PORT"])), Answers, bind_and_activate=False
    )
    if "HTTP_LISTEN_FD" in os.environ:
        server.socket.close()
        server.socket = socket.socket(fileno=int(os.environ["HTTP_LISTEN_FD"]))
    else:
        server.server_bind()
        server.server_activate()
    server.serve_forever()


if __name__ == "__main__":
    main()
