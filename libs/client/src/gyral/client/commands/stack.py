"""`gyral up`, `down` and `status`: the platform on this machine."""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import asdict

from gyral.client.addresses import home
from gyral.client.commands import output
from gyral.client.errors import ClientError
from gyral.local import telling
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

    def start(stack: Stack) -> None:
        try:
            stack.up(given.names, progress=show)
        finally:
            if terminal:
                sys.stderr.write("\n")
        output.say(telling.started(stack.instance.home, stack.statuses().values()))

    return _with_stack(start)


def down(_given: argparse.Namespace) -> int:
    """Stop everything."""

    def stop(stack: Stack) -> None:
        before = stack.statuses().values()
        stack.down()
        output.say(telling.stopped(stack.instance.home, before))

    return _with_stack(stop)


def status(given: argparse.Namespace) -> int:
    """Say how each process stands."""

    def show(stack: Stack) -> None:
        found = stack.statuses()
        if given.output == "json":
            output.document([asdict(status) for status in found.values()])
            return
        for line in telling.table(found):
            output.say(line)

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
