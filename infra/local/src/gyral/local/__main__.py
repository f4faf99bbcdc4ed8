"""The local stack's command line: `python -m gyral.local up | down | restart | status | …`."""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from gyral.local import docker, supervisor, telling
from gyral.local.errors import LocalError
from gyral.local.instance import Instance, PortChoice
from gyral.local.processes import Identity
from gyral.local.stack import Stack

_SECRET = ("_SECRET", "_PASSWORD", "_KEY")
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a failure is one line and status 1."""
    given = _parser().parse_args(arguments)
    try:
        choice = PortChoice(os.environ.get("GYRAL_PORTS", PortChoice.PREFERRED))
        stack = Stack(Instance(os.environ.get("GYRAL_HOME") or ".gyral", port_choice=choice))
        status = _COMMANDS[given.command](stack, given)
        sys.stdout.flush()
    except LocalError as error:
        _tell(f"gyral: {error}")
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = error.filename or "the instance's folder"
        _tell(f"gyral: {where}: {error.strerror}; free some space there, or check who owns it")
    except KeyboardInterrupt:
        return _INTERRUPTED
    else:
        return status
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gyral.local", description="Gyral's processes on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start everything and wait until it is healthy")
    up.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="services or groups, with their needs",
    )
    up.add_argument(
        "--foreground", action="store_true", help="stay, and stop everything at Ctrl-C"
    )
    commands.add_parser("down", help="stop everything")
    restart = commands.add_parser(
        "restart", help="end one service in good order and wait for its successor"
    )
    restart.add_argument("name", metavar="NAME")
    status = commands.add_parser("status", help="say how each process stands")
    status.add_argument("-o", "--output", choices=("table", "json"), default="table")
    logs = commands.add_parser("logs", help="show what the processes said")
    logs.add_argument("names", nargs="*", metavar="NAME")
    logs.add_argument("-f", "--follow", action="store_true")
    env = commands.add_parser("env", help="print addresses and ports")
    env.add_argument(
        "--docker", action="store_true", help="write .env and key files for `docker compose up`"
    )
    supervise = commands.add_parser(
        "supervise", help="keep services up in the background; `up` calls it"
    )
    supervise.add_argument("--owner", help="id and start of the process it ends with")
    supervise.add_argument("names", nargs="+", metavar="NAME")
    return parser


def _up(stack: Stack, given: argparse.Namespace) -> int:
    if given.foreground:
        return _foreground(stack, given)
    terminal = sys.stderr.isatty()

    def show(line: str) -> None:
        sys.stderr.write(f"\r\033[K{line[:100]}")
        sys.stderr.flush()

    try:
        stack.up(given.only, **({"progress": show} if terminal else {}))
    finally:
        if terminal:
            _tell("")
    _say(telling.started(stack.instance.home, stack.statuses().values()))
    return 0


def _foreground(stack: Stack, given: argparse.Namespace) -> int:
    names = stack.prepare_foreground(given.only)
    with supervisor.sole(stack.instance):
        asyncio.run(
            supervisor.supervise(stack.instance, names, supervisor.log_line, lambda: None)
        )
    return 0


def _supervise(stack: Stack, given: argparse.Namespace) -> int:
    """Become the supervisor in a second process; end once that is ready or has failed."""
    owner = Identity.parse(given.owner) if given.owner else None
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return 0 if os.read(reading, 1) else 1
    os.close(reading)

    def ready() -> None:
        os.write(writing, b"1")
        os.close(writing)

    with supervisor.sole(stack.instance):
        asyncio.run(
            supervisor.supervise(stack.instance, given.names, supervisor.log_line, ready, owner)
        )
    return 0


def _down(stack: Stack, _given: argparse.Namespace) -> int:
    before = stack.statuses().values()
    stack.down()
    _say(telling.stopped(stack.instance.home, before))
    return 0


def _restart(stack: Stack, given: argparse.Namespace) -> int:
    stack.restart(given.name)
    return 0


def _status(stack: Stack, given: argparse.Namespace) -> int:
    found = stack.statuses()
    if given.output == "json":
        _say(json.dumps([asdict(status) for status in found.values()], indent=2))
        return 0
    for line in telling.table(found):
        _say(line)
    return 0


def _logs(stack: Stack, given: argparse.Namespace) -> int:
    names = given.names or sorted(path.stem for path in stack.instance.logs.glob("*.log"))
    files = [stack.instance.log(name) for name in names]
    for file in files:
        if not file.exists():
            raise LocalError(
                f"{file} does not exist: see `make status` for the names of what ran"
            )
    if not files:
        raise LocalError(f"{stack.instance.logs} has no logs yet: start with `make up`")
    follow = ["-F"] if given.follow else []
    return subprocess.run(["tail", "-n", "50", *follow, "--", *files], check=False).returncode  # noqa: S607


def _env(stack: Stack, given: argparse.Namespace) -> int:
    if given.docker:
        for line in docker.write_env(stack.instance):
            _tell(line)
        return 0
    for name, value in stack.env().items():
        if not name.endswith(_SECRET):
            _say(f"{name}={value}")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


_COMMANDS: Mapping[str, Callable[[Stack, argparse.Namespace], int]] = {
    "up": _up,
    "down": _down,
    "restart": _restart,
    "status": _status,
    "logs": _logs,
    "env": _env,
    "supervise": _supervise,
}

if __name__ == "__main__":
    sys.exit(main())
