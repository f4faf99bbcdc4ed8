"""The local stack's command line: `python -m gyral.local up | down | status | logs | env`."""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence

from gyral.local import compose
from gyral.local.errors import LocalError
from gyral.local.instance import Instance
from gyral.local.stack import Stack
from gyral.local.supervisor import Supervisor, on_signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a failure is one line and status 1."""
    given = _parser().parse_args(arguments)
    stack = Stack(Instance(os.environ.get("GYRAL_HOME", ".gyral")))
    try:
        return _COMMANDS[given.command](stack, given)
    except LocalError as error:
        print(f"gyral: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gyral.local", description="Gyral's processes on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start everything and wait until it is healthy")
    up.add_argument("--only", nargs="+", default=[], metavar="NAME", help="services or groups, with their needs")
    commands.add_parser("down", help="stop everything")
    status = commands.add_parser("status", help="say how each process stands")
    status.add_argument("-o", "--output", choices=("table", "json"), default="table")
    logs = commands.add_parser("logs", help="show the processes' output")
    logs.add_argument("names", nargs="*", metavar="NAME")
    logs.add_argument("-f", "--follow", action="store_true")
    commands.add_parser("env", help="print the instance's addresses")
    supervise = commands.add_parser("supervise", help="keep services up in the foreground")
    supervise.add_argument("names", nargs="+", metavar="NAME")
    return parser


def _up(stack: Stack, given: argparse.Namespace) -> int:
    terminal = sys.stderr.isatty()

    def show(line: str) -> None:
        print(f"\r\033[K{line[:100]}", end="", file=sys.stderr, flush=True)

    try:
        stack.up(given.only, progress=show if terminal else None)
    finally:
        if terminal:
            print(file=sys.stderr)
    return 0


def _down(stack: Stack, _given: argparse.Namespace) -> int:
    stack.down()
    return 0


def _status(stack: Stack, given: argparse.Namespace) -> int:
    rows = stack.statuses().values()
    if given.output == "json":
        print(json.dumps([{"name": row.name, "phase": row.phase, "pid": row.pid, "restarts": row.restarts} for row in rows]))
        return 0
    print(f"{'NAME':<14} {'PHASE':<12} {'PID':>8} {'RESTARTS':>9}")
    for row in rows:
        print(f"{row.name:<14} {row.phase:<12} {row.pid or '-':>8} {row.restarts:>9}")
    return 0


def _logs(stack: Stack, given: argparse.Namespace) -> int:
    names = given.names or sorted(path.stem for path in stack.instance.logs.glob("*.log"))
    files = [str(stack.instance.logs / f"{name}.log") for name in names]
    follow = ["-F"] if given.follow else []
    return subprocess.run(["tail", "-n", "50", *follow, *files], check=False).returncode  # noqa: S603, S607


def _env(stack: Stack, _given: argparse.Namespace) -> int:
    for name, value in stack.instance.env().items():
        if name.endswith(("_PORT", "_URL", "_BROKERS", "_ENDPOINT", "_HOME")):
            print(f"{name}={value}")
    return 0


def _supervise(stack: Stack, given: argparse.Namespace) -> int:
    graph = compose.services(stack.instance.document(), stack.instance.prepare())

    async def run() -> None:
        supervisor = Supervisor(stack.instance, [graph[name] for name in given.names])
        on_signals(supervisor.stop)
        await supervisor.run()

    asyncio.run(run())
    return 0


_COMMANDS = {
    "up": _up,
    "down": _down,
    "status": _status,
    "logs": _logs,
    "env": _env,
    "supervise": _supervise,
}

if __name__ == "__main__":
    sys.exit(main())
