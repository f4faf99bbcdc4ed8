"""The command line of those who run a platform: keys, and what was refused or erased."""

import argparse
from pathlib import Path

from gyral.client.options import Commands, command, group, output


def add(commands: Commands) -> None:
    """Add the commands."""
    _key(commands)
    _retrain(commands)
    _dlq(commands)
    _quarantine(commands)
    _blocks(commands)
    _subject(commands)


def _key(commands: Commands) -> None:
    of = group(commands, "key", "issue and revoke API keys")
    issue = command(of, "issue", "keys:issue", "issue a key, which is shown this once")
    issue.add_argument("name", help="who it is for, as the audit shows it")
    issue.add_argument(
        "--scope",
        dest="scopes",
        action="append",
        required=True,
        choices=("infer", "ingest", "read", "operate", "admin"),
        help="what it may do; more than once for more",
    )
    issue.add_argument(
        "--model",
        dest="models",
        metavar="M",
        action="append",
        help="the only model it may ask, with scope infer alone; more than once for more",
    )
    issue.add_argument(
        "--expires", metavar="WHEN", help="RFC 3339 with an offset, or from now, such as 90d"
    )
    output(issue)
    revoke = command(of, "revoke", "keys:revoke", "take a key back, at once and for good")
    revoke.add_argument("key_id", help="as `gyral get keys` lists it")


def _retrain(commands: Commands) -> None:
    retrain = command(commands, "retrain", "retraining:retrain", "have a model trained anew")
    retrain.add_argument("model")
    retrain.add_argument(
        "--reason", metavar="WHY", required=True, help="goes into the audit with your key"
    )
    output(retrain)


def _dlq(commands: Commands) -> None:
    of = group(commands, "dlq", "look at dead letters, and have them handled after all")
    listing = command(of, "ls", "letters:ls", "list dead letters, oldest first")
    _letters(listing)
    _state(listing, "parked", "replayed", "handled")
    output(listing)
    show = command(of, "show", "letters:show", "show one with its headers and bytes")
    show.add_argument("id")
    _whole(show)
    replay = command(of, "replay", "letters:replay", "put letters back on their topics")
    _letters(replay)
    _putting_back(replay)


def _letters(command: argparse.ArgumentParser) -> None:
    command.add_argument("--topic", help="only of this topic, where the events came from")
    command.add_argument("--reason", choices=("malformed", "permanent", "bug"))
    command.add_argument("--id", action="append", help="only this one; may be repeated")


def _quarantine(commands: Commands) -> None:
    of = group(commands, "quarantine", "look at refused rows, and have them judged again")
    listing = command(of, "ls", "quarantining:ls", "list refused rows, oldest first")
    _refused(listing)
    listing.add_argument("--id", action="append", type=int, help="only this one; repeatable")
    _state(listing, "held", "replayed")
    listing.add_argument("--limit", type=int, default=100, help="most rows to show")
    output(listing)
    show = command(of, "show", "quarantining:show", "show one with its headers and bytes")
    show.add_argument("id", type=int)
    _whole(show)
    export = command(of, "export", "quarantining:export", "write rows and bytes to a file")
    export.add_argument("file", type=Path, help="its name ends in .ndjson, .jsonl or .parquet")
    _refused(export)
    _state(export, "held", "replayed")
    output(export)
    replay = command(of, "replay", "quarantining:replay", "have held rows judged again")
    _refused(replay)
    replay.add_argument("--id", action="append", type=int, help="only this one; repeatable")
    _putting_back(replay)


def _refused(command: argparse.ArgumentParser) -> None:
    command.add_argument("--stream", help="only of this stream, as the rows named it")
    command.add_argument("--reason", help="only refused for this, such as `range`")
    command.add_argument("--since", metavar="TIME", help="only refused then or later")


def _state(command: argparse.ArgumentParser, *states: str) -> None:
    command.add_argument("--state", choices=(*states, "all"), default=states[0])


def _whole(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--bytes", type=int, default=4096, metavar="N", help="most bytes of a part to show"
    )
    output(command)


def _putting_back(command: argparse.ArgumentParser) -> None:
    command.add_argument("--because", metavar="WHY", help="goes into the audit with your key")
    command.add_argument("--dry-run", action="store_true", help="only count what would go back")
    output(command)


def _blocks(commands: Commands) -> None:
    of = group(commands, "blocks", "look at what expectations found, and release blocks")
    listing = command(of, "ls", "blocks:ls", "list judged blocks of event time, oldest first")
    listing.add_argument("stream")
    _state(listing, "held")
    listing.add_argument("--limit", type=int, default=1000, help="most rows to show")
    output(listing)
    release = command(
        of,
        "release",
        "blocks:release",
        "let failed blocks count as passed",
    )
    release.add_argument("stream")
    chosen = release.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--id", action="append", type=int, help="only this one; repeatable")
    chosen.add_argument("--all", action="store_true", help="every one that failed")
    release.add_argument(
        "--because", metavar="WHY", required=True, help="is kept with your key"
    )
    output(release)


def _subject(commands: Commands) -> None:
    of = group(commands, "subject", "have subjects erased, and see what came of it")
    erase = command(
        of, "erase", "subjects:erase", "erase a subject, read from standard input or a file"
    )
    erase.add_argument("stream")
    erase.add_argument("--file", type=Path, help="holds the subject, and nothing else")
    erase.add_argument("--because", metavar="WHY", required=True, help="is kept with your key")
    erase.add_argument(
        "--wait-s", type=float, default=600.0, help="how long to wait for the end of it"
    )
    output(erase)
    show = command(of, "show", "subjects:show", "say what an erasure took, and from where")
    show.add_argument("id")
    output(show)
    listing = command(of, "ls", "subjects:ls", "list erasures, oldest first")
    listing.add_argument("--stream", help="only of this stream")
    listing.add_argument("--limit", type=int, default=100, help="most rows to show")
    output(listing)
