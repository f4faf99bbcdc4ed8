"""Becomes a runtime's process: `launcher.py FOLDER COMMAND...`, with a socket to inherit.

Nobody is its parent, so that the deployer may die. A lock on FOLDER/lock is taken first and
kept by the process it becomes for as long as it lives, however it ends: the kernel says who
has it. So a folder never has two processes, and the one it has can be found.

Run by its path, with the standard library alone: it is on the way of a cold start.
"""

import fcntl
import os
import socket
import sys
from typing import NoReturn

HELD = 75
"""Exit status: another process has the folder."""


def main(folder: str, command: list[str]) -> int:
    """Leave a process behind that runs the command, once it has the folder; return a status."""
    reading, writing = os.pipe()
    if not os.fork():
        os.close(reading)
        _become(folder, command, writing)
    os.close(writing)
    return 0 if os.read(reading, 1) else HELD


def _become(folder: str, command: list[str], told: int) -> NoReturn:
    """Take the folder, say so, and run the command as this very process."""
    os.setsid()
    lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT, 0o600)  # noqa: PTH118 - quick
    try:
        # Of the process, not of the descriptor: it outlives exec, and no child inherits it.
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os._exit(HELD)
    os.set_inheritable(lock, True)  # noqa: FBT003 - positional only
    _tell_port(folder)
    os.write(told, b"1")
    os.close(told)
    os.execv(command[0], command)  # noqa: S606 - the deployer's own command


def _tell_port(folder: str) -> None:
    """Write where this process will listen, whole or not at all."""
    listener = socket.socket(fileno=int(os.environ["HTTP_LISTEN_FD"]))
    port = listener.getsockname()[1]
    listener.detach()
    draft = os.path.join(folder, "port.new")  # noqa: PTH118 - quick
    with open(draft, "w", encoding="ascii") as file:  # noqa: PTH123 - quick
        file.write(str(port))
    os.replace(draft, os.path.join(folder, "port"))  # noqa: PTH105, PTH118 - quick


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
