"""The command line: what each command takes; how it works is in `commands`."""

import argparse
import asyncio
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gyral.client import operating
from gyral.client.errors import ClientError
from gyral.client.options import Commands, command, group, output

INTERRUPTED = 130
_FAILED = 1


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; a failure is one line on stderr."""
    given = parser().parse_args(arguments)
    module, _, function = str(given.run).partition(":")
    try:
        command = getattr(importlib.import_module(f"gyral.client.commands.{module}"), function)
        result = command(given)
        status: int = asyncio.run(result) if asyncio.iscoroutine(result) else result
        sys.stdout.flush()
    except (ClientError, BaseExceptionGroup) as error:
        _tell(_first_line(error))
        return _FAILED
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    top = argparse.ArgumentParser(
        prog="gyral",
        description="Keep models current: drive a Gyral platform from outside.",
        epilog="Addresses and key come from GYRAL_HOME (default .gyral), or from "
        "GYRAL_<SERVICE>_URL and GYRAL_API_KEY.",
    )
    top.add_argument("--version", action=_Version, help="say which version this is, and end")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _stack(commands)
    _declaring(commands)
    _rollout(commands)
    _using(commands)
    _sending(commands)
    _replay(commands)
    _datasets(commands)
    operating.add(commands)
    _audit(commands)
    return top


class _Version(argparse.Action):
    """Prints the version; it is looked up only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: str | None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=options.get("help"))

    def __call__(self, parser: argparse.ArgumentParser, *_given: object) -> None:
        sys.stdout.write(f"gyral {importlib.metadata.version('gyral-client')}\n")
        parser.exit()


def _stack(commands: Commands) -> None:
    up = command(commands, "up", "stack:up", "start the platform on this machine")
    up.add_argument("names", nargs="*", metavar="NAME", help="only these, with their needs")
    command(commands, "down", "stack:down", "stop it")
    output(command(commands, "status", "stack:status", "say how each process stands"))


def _declaring(commands: Commands) -> None:
    apply = command(commands, "apply", "declaring:apply", "declare streams and models")
    apply.add_argument(
        "-f", "--file", type=Path, required=True, metavar="PATH", help="a YAML file or a folder"
    )
    apply.add_argument(
        "--no-wait",
        dest="wait",
        action="store_false",
        help="do not wait until every service knows what was declared",
    )
    output(apply)
    get = command(commands, "get", "showing:get", "show what there is")
    get.add_argument(
        "kind",
        choices=("streams", "models", "versions", "keys", "alarms", "runtimes"),
    )
    get.add_argument("name", nargs="?", help="of a stream or a model")
    get.add_argument("--limit", type=int, default=1000, help="most rows")
    output(get)
    runs = command(commands, "runs", "showing:runs", "list trainings, newest first")
    runs.add_argument("model", nargs="?")
    runs.add_argument("--limit", type=int, default=20)
    output(runs)
    trace = command(
        commands, "trace", "showing:trace", "follow a model's loop, cause to effect"
    )
    trace.add_argument("model")
    output(trace)


def _rollout(commands: Commands) -> None:
    of = group(commands, "rollout", "show, steer and take back rollouts")
    show = command(of, "show", "rollouts:show", "show a model's rollouts, newest first")
    show.add_argument("model")
    show.add_argument("version", nargs="?", type=int)
    output(show)
    for name, summary in (
        ("abort", "take back the version under way"),
        ("promote", "let the version under way answer alone"),
        ("pause", "hold the version under way in its step"),
        ("resume", "let a paused version go on"),
        ("approve", "let a version answer that awaits approval"),
        ("rollback", "have the previous champion answer alone again"),
    ):
        order = command(of, name, f"rollouts:{name}", summary)
        order.add_argument("model")
        order.add_argument("version", nargs="?", type=int, help="default: the one meant")
        order.add_argument(
            "--reason", metavar="WHY", required=True, help="goes into the audit with your key"
        )
        if name == "rollback":
            order.add_argument(
                "--emergency",
                action="store_true",
                help="have the gateways do it themselves, with Kafka or Postgres down",
            )
        output(order)


def _using(commands: Commands) -> None:
    predict = command(commands, "predict", "using:predict", "ask a model")
    predict.add_argument("model")
    predict.add_argument(
        "rows", nargs="?", type=Path, help="NDJSON, an object of features a line; default stdin"
    )
    predict.add_argument("--key", metavar="FIELD", help="field with the entity's key")
    predict.add_argument("--time", metavar="FIELD", help="field with the event time")
    output(predict)


def _sending(commands: Commands) -> None:
    send = command(commands, "send", "sending:send", "send rows to a stream")
    send.add_argument("stream")
    send.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="CSV, NDJSON (both also .gz or .zst) or Parquet; default NDJSON from stdin",
    )
    send.add_argument(
        "--batch", type=int, default=1000, metavar="N", help="most rows of a request"
    )
    send.add_argument(
        "--restart", action="store_true", help="forget what was sent; start at the beginning"
    )
    send.add_argument(
        "--watermark", metavar="TIME", help="say afterwards that all before it was sent"
    )
    table = send.add_argument_group(
        "a table of Postgres", "its DSN comes from GYRAL_SOURCE_DSN or --dsn-file"
    )
    table.add_argument("--from-postgres", action="store_true", help="send a table's changes")
    table.add_argument("--table", metavar="T", help="exact name of a table or view")
    table.add_argument("--since", metavar="COLUMN", help="when a row changed")
    table.add_argument(
        "--key", metavar="COLUMN", help="what identifies a row; default: the stream's key"
    )
    table.add_argument(
        "--overlap",
        metavar="DURATION",
        help="read so much again, for changes that are committed late; default 5m",
    )
    table.add_argument("--dsn-file", type=Path, metavar="FILE", help="of mode 0600")
    output(send)


def _replay(commands: Commands) -> None:
    replay = command(
        commands, "replay", "replaying:replay", "play a file of the past through the platform"
    )
    replay.add_argument("--spec", type=Path, required=True, metavar="DIR")
    replay.add_argument("--data", type=Path, required=True, metavar="FILE")
    replay.add_argument("--time", required=True, metavar="COLUMN", help="when a row happened")
    replay.add_argument("--label", required=True, metavar="COLUMN", help="what came true")
    replay.add_argument("--key", metavar="COLUMN", help="what identifies a row")
    known = replay.add_mutually_exclusive_group()
    known.add_argument("--label-at", metavar="COLUMN", help="when its label was known")
    known.add_argument("--label-lag", metavar="DURATION", help="how long after the row")
    replay.add_argument(
        "--bootstrap", default="59d", metavar="DURATION", help="what the first version learns"
    )
    replay.add_argument("--until", metavar="TIME", help="where to stop")
    replay.add_argument(
        "--no-wait",
        dest="wait",
        action="store_false",
        help="do not wait for the platform at a day's end: the racing case",
    )
    replay.add_argument("--report", type=Path, required=True, metavar="OUT", help="a folder")
    output(replay)
    check = command(
        commands, "check-report", "replaying:check", "hold a report to limits; 1 when one fails"
    )
    check.add_argument("report", type=Path, metavar="report.json")
    for name, least, what in (
        ("--gain", 0.015, "least log-loss gain of the loop over the frozen model, in nats"),
        ("--lower95", 0.008, "what the gain's 95 %% lower bound must lie above"),
        ("--auc-gain", 0.02, "least gain in AUC"),
    ):
        check.add_argument(
            name,
            type=float,
            default=least,
            metavar="X",
            help=f"{what}; default, the demo's: %(default)s",
        )
    check.add_argument(
        "--promotions",
        type=int,
        nargs=2,
        default=(2, 12),
        metavar="N",
        help="least and most promotions; default, the demo's: 2 12",
    )


def _datasets(commands: Commands) -> None:
    of = group(commands, "dataset", "read the versions of a stream's table")
    listing = command(of, "ls", "datasets:ls", "list announced versions, oldest first")
    listing.add_argument("stream", nargs="?")
    listing.add_argument("--limit", type=int, default=1000, help="most rows")
    output(listing)
    show = command(of, "show", "datasets:show", "show what a version pins")
    export = command(of, "export", "datasets:export", "write a version to a Parquet file")
    for each in (show, export):
        each.add_argument("stream")
        each.add_argument("--version", type=int, metavar="V", help="default: the newest")
    export.add_argument("--to", type=Path, metavar="FILE", help="default: STREAM-V.parquet")
    export.add_argument("--fields", metavar="A,B", help="only these columns")
    output(show)
    output(export)


def _audit(commands: Commands) -> None:
    audit = command(
        commands, "audit", "auditing:audit", "check the invariants; 1 when one is violated"
    )
    audit.add_argument(
        "--sent", type=Path, metavar="FILE", help="a sender's journal, sent.jsonl"
    )
    output(audit)


def _first_line(error: BaseException) -> str:
    """Return the one thing that went wrong, wherever it lies in a group of tasks."""
    while isinstance(error, BaseExceptionGroup):
        known = error.subgroup(ClientError)
        error = (known or error).exceptions[0]
    if isinstance(error, ClientError):
        return str(error)
    raise error


def _tell(line: str) -> None:
    # Names out of files and databases are others' text: never orders to a terminal.
    shown = "".join(each if each.isprintable() else "\ufffd" for each in " ".join(line.split()))
    sys.stderr.write(f"gyral: {shown}\n")
