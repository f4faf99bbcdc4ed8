"""What every command is made of: its parser, a group of them, how it prints."""

import argparse
from typing import Protocol


class Commands(Protocol):
    """What sub-commands are added to; argparse has no public name for it."""

    def add_parser(
        self,
        name: str,
        *,
        help: str,  # noqa: A002 - argparse calls it so
        description: str,
    ) -> argparse.ArgumentParser:
        """Return the parser of a new command."""


def command(commands: Commands, name: str, run: str, summary: str) -> argparse.ArgumentParser:
    """Add a command that runs `module:function` of `gyral.client.commands`."""
    made: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    made.set_defaults(run=run)
    return made


def group(commands: Commands, name: str, summary: str) -> Commands:
    """Add a group of commands."""
    made = commands.add_parser(name, help=summary, description=summary)
    within: Commands = made.add_subparsers(dest="action", required=True, metavar="ACTION")
    return within


def output(made: argparse.ArgumentParser) -> None:
    """Let a command print a table or JSON."""
    made.add_argument("-o", "--output", choices=("table", "json"), default="table")
