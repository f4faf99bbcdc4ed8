"""`gyral up`, `down` and `status`: the platform on this machine."""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import asdict

from gyral.client.addresses import home
from gyral.client.commands import output
from gyral.client.errors import ClientError
from gyral.local.errors import LocalError
from gyral.local.instance import Instance, PortChoice
from gyral.local.stack import Stack


def up(given: argparse.Namespace) -> int:
    """Start what is wanted and return once it is healthy."""
    terminal = sys.stderr.isatty()

    def show(line: str) -> None:
        if terminal:
            sys.stderr.write(f"\r\033[K{line[:100]}")
            sys.stderr.flush()

    status = _with_stack(lambda stack: stack.up(given.names, progress=show))
    if terminal:
        sys.stderr.write("\n")
    return status


def down(_given: argparse.Namespace) -> int:
    """Stop everything."""
    return _with_stack(lambda stack: stack.down())


def status(given: argparse.Namespace) -> int:
    """Say how each process stands."""

    def show(stack: Stack) -> None:
        rows = [asdict(status) for status in stack.statuses().values()]
        output.rows(rows, ("name", "phase", "pid", "restarts"), given.output)

    return _with_stack(show)


def _with_stack(act: Callable[[Stack], None]) -> int:
    choice = PortChoice(os.environ.get("GYRAL_PORTS", PortChoice.PREFERRED))
    try:
        act(Stack(Instance(home(), port_choice=choice)))
    except LocalError as error:
        raise ClientError(str(error)) from error
    except OSError as error:
        where = error.filename or "the instance's folder"
        raise ClientError(
            f"{where}: {error.strerror}; free some space there, or check who owns it"
        ) from error
    return 0
