"""`gyral replay` and what is checked of its report."""

import argparse
from datetime import UTC, datetime

from gyral.client import addresses
from gyral.client.calls import LONG_WORK_S, Platform
from gyral.client.commands import output
from gyral.client.errors import ClientError
from gyral.client.replay import live
from gyral.client.replay.moments import micros
from gyral.client.replay.playing import Options, play
from gyral.client.replay.source import Columns
from gyral.client.report import limits, writing
from gyral.contracts.specs.document import duration_seconds


async def replay(given: argparse.Namespace) -> int:
    """Play a file through the platform; 0 only if every invariant holds."""
    options = _options(given)
    where = addresses.find()
    with live.line() as line:
        async with Platform(where, patience_s=LONG_WORK_S) as platform:
            replayed = await play(options, platform, line)
            line.doing("checking the invariants and writing the report")
            report = await writing.write(replayed, options.report)
    if given.output == "json":
        output.document(report.json())
    else:
        for text in report.lines():
            output.say(text)
        output.say(f"report: {options.report / 'report.html'}")
    return 0 if report.holds else 1


def check(given: argparse.Namespace) -> int:
    """Say which limits a report misses; 0 when none."""
    least, most = given.promotions
    missed = limits.missed(
        limits.read(given.report),
        limits.Limits(given.gain, given.lower95, given.auc_gain, least, most),
    )
    for line in missed:
        output.say(f"missed: {line}")
    if not missed:
        output.say("every limit is kept")
    return 1 if missed else 0


def _options(given: argparse.Namespace) -> Options:
    for name in ("bootstrap", "label_lag"):
        text = getattr(given, name)
        if text is not None:
            _duration(name, text)
    return Options(
        given.spec,
        given.data,
        Columns(given.time, given.label, given.key, given.label_at, given.label_lag),
        given.report,
        given.bootstrap,
        None if given.until is None else _until(given.until),
        given.wait,
    )


def _duration(name: str, text: str) -> None:
    try:
        duration_seconds(text)
    except ValueError as error:
        raise ClientError(f"--{name.replace('_', '-')}: {error}") from error


def _until(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ClientError(
            f"--until: expected a time such as 2013-04-01; found {text!r}"
        ) from error
    return micros(time if time.tzinfo else time.replace(tzinfo=UTC))
