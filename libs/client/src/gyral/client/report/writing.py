"""Writes a replay's report: checks the invariants, finds the trace, and saves both forms."""

from pathlib import Path

import orjson

from gyral.client.addresses import home, variables
from gyral.client.audit import checking, tracing
from gyral.client.audit.failing import told_in_a_line
from gyral.client.audit.log import connect
from gyral.client.replay.playing import Replayed
from gyral.client.replay.variants import Variant
from gyral.client.report import page, promotions
from gyral.client.report.closing import closed
from gyral.client.report.content import Report, content


async def write(replayed: Replayed, folder: Path) -> Report:
    """Return the report, having written report.json and report.html."""
    settings = variables(home())
    findings = await checking.check(settings, replayed.journal)
    with told_in_a_line():
        async with checking.database(settings) as connection:
            promoted = await promotions.of_model(connection, replayed.models[Variant.LOOP])
        asked = [each.request_id for each in promoted if each.request_id and each.by_monitor]
        trace = await tracing.of_requests(settings, asked)
        async with connect(settings["KAFKA_BROKERS"]) as log:
            turns = closed(replayed.history.closings, await log.began())
    wall_s = replayed.bootstrap_s + replayed.replay_s
    report = content(replayed, findings, promoted, turns, trace=trace, wall_s=wall_s)
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    (folder / "report.json").write_bytes(orjson.dumps(report.json(), option=options))
    (folder / "report.html").write_text(page.render(report))
    return report
