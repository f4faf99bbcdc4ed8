"""report.html: one file that needs nothing else, light or dark as its reader's screen is."""

from collections.abc import Callable, Iterable, Sequence
from html import escape

from gyral.client.replay.moments import text
from gyral.client.replay.variants import Variant
from gyral.client.report.chart import Chart, Mark
from gyral.client.report.content import Report
from gyral.client.report.periods import Unit
from gyral.client.report.requests import counted, evidence, folded, noun, tally
from gyral.client.report.statistics import Scores, Summary

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667085; --line: #e3e7ee;
  --page: #fff; --frozen: #98a2b3; --timer: #d97706; --loop: #2563eb; --good: #16803c;
  --bad: #c0262d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3;
  --line: #2c3442; --page: #12161d; --frozen: #7a8497; --timer: #f2a33a; --loop: #6ea8fe;
  --good: #4cc277; --bad: #f2777d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 900px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; }
h2 { font-size: 1.1rem; margin-top: 2rem; }
p.lead { color: var(--soft); margin-top: .2rem; }
svg { width: 100%; height: auto; }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: .6rem .9rem;
  flex: 1 1 150px; }
.card b { display: block; font-size: 1.35rem; }
.card span { color: var(--soft); font-size: .85rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  font-size: .9rem; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid var(--line); }
td, th.text { white-space: nowrap; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td.said { white-space: normal; overflow-wrap: anywhere; min-width: 12em; }
tr.more td { color: var(--soft); }
.wide { overflow-x: auto; }
.title { font-weight: 600; fill: var(--ink); font-size: 13px; }
.tick { fill: var(--soft); font-size: 11px; }
.grid { stroke: var(--line); }
.line polyline { fill: none; stroke-width: 2.2; }
.mark line { stroke-dasharray: 3 3; opacity: .55; }
.frozen polyline { stroke: var(--frozen); }
.frozen circle { fill: var(--frozen); }
.timer polyline { stroke: var(--timer); }
.timer circle { fill: var(--timer); }
.loop polyline { stroke: var(--loop); }
.loop circle { fill: var(--loop); }
.promoted line { stroke: var(--good); }
.promoted circle { fill: var(--good); }
.rejected line { stroke: var(--bad); }
.rejected circle { fill: var(--bad); }
.asked line { stroke: var(--soft); }
.asked circle { fill: var(--soft); }
.key { color: var(--soft); }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: 50%;
  margin: 0 .3em 0 .9em; }
a { color: var(--loop); }
"""
_LINES = (("frozen", "frozen"), ("timer", "every 28 d"), ("loop", "the loop"))
_MARKS = {
    "promoted": ("good", "promoted"),
    "rejected": ("bad", "rejected"),
    "asked": ("soft", "asked for"),
}
_EACH = {Unit.DAY: "Day by day", Unit.WEEK: "Week by week", Unit.MONTH: "Month by month"}
_SCORES: tuple[tuple[str, Callable[[Summary], Scores]], ...] = (
    ("Log-loss by {} (lower is better)", lambda scores: scores.log_loss),
    ("AUC by {} (higher is better)", lambda scores: scores.auc),
    ("Calibration error by {} (lower is better)", lambda scores: scores.ece),
)


def render(report: Report) -> str:
    """Return the page."""
    days = report.replayed.schedule.days
    start, end = _date(days[0].start_us), _date(days[-1].end_us)
    lead = (
        f"{report.overall.rows:,} labelled predictions, {start} to {end} in event time, "
        f"replayed in {report.wall_s:.0f} s."
    )
    marks = _marks(report)
    body = [
        f"<h1>{escape(report.model)}: what the loop gained</h1>",
        f'<p class="lead">{escape(lead)}</p>',
        _cards(report),
        _key(marks),
        *(_chart(report, title, pick, marks).svg() for title, pick in _SCORES),
        _left_out(report),
        f"<h2>{_EACH[report.periods.unit]}</h2>",
        _scores(report),
        "<h2>Requests for training</h2>",
        _triggers(report),
        "<h2>Rollouts</h2>",
        _rollouts(report),
        "<h2>Invariants</h2>",
        _invariants(report),
        _trace(report),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.model)}: replay</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _chart(
    report: Report, title: str, pick: Callable[[Summary], Scores], marks: Sequence[Mark]
) -> Chart:
    periods = report.periods
    lines = {
        variant.value: [pick(each.scores)[variant] for each in periods.drawn]
        for variant in Variant
    }
    return Chart(title.format(periods.unit), periods.axis, lines, marks)


def _marks(report: Report) -> Sequence[Mark]:
    place = report.periods.share
    found = [
        Mark(place(moment), "promoted", f"version {each.version} promoted")
        for each in report.promotions
        if (moment := report.taken_over(each)) is not None
    ]
    for each in report.triggers:
        kind = {"rejected": "rejected", "approved": "asked"}.get(each.outcome)
        if kind is not None:
            shown = f"{each.cause} on {each.as_of:%Y-%m-%d}: {each.outcome}"
            found.append(Mark(place(each.as_of), kind, shown))
    return found


def _left_out(report: Report) -> str:
    found = report.periods.left_out
    if not found:
        return ""
    named = ", ".join(f"{each.name} ({counted(each.scores.rows, 'row')})" for each in found)
    return f'<p class="key">Not drawn, for too few rows: {escape(named)}.</p>'


def _cards(report: Report) -> str:
    gain, tally = report.loop_gain, report.replayed.tally
    closing = [each.closing_s for each in report.closed]
    promoted, rejected = len(report.promotions), len(report.rejections)
    violated = sum(each.violations for each in report.findings)
    asked = counted(len(report.triggers), "request")
    bound = f"95 % lower bound {_number(gain.lower95)}"
    cards = (
        (_number(gain.mean), f"nats gained over frozen; {bound}"),
        (str(promoted), f"{noun(promoted, 'promotion')}, of {asked} for training"),
        (str(rejected), f"{noun(rejected, 'challenger')} rejected"),
        (
            f"{max(closing):.1f} s" if closing else "-",
            "longest from alarm to a rollout's first step, training apart",
        ),
        (f"{tally.predictions:,}", "predictions answered"),
        (str(violated), f"{noun(violated, 'violation')} of invariants"),
    )
    inner = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(said)}</span></div>'
        for value, said in cards
    )
    return f'<div class="cards">{inner}</div>'


def _key(marks: Sequence[Mark]) -> str:
    """Name the lines, and those marks that occur."""
    occurring = {mark.kind for mark in marks}
    shown = [*_LINES, *(named for kind, named in _MARKS.items() if kind in occurring)]
    inner = "".join(
        f'<i style="background:var(--{colour})"></i>{escape(said)}' for colour, said in shown
    )
    return f'<p class="key">{inner}</p>'


def _scores(report: Report) -> str:
    unit = report.periods.unit
    head = ["week from" if unit is Unit.WEEK else str(unit), "rows", "share positive"]
    head += [f"{name} {variant}" for name in ("log-loss", "AUC", "ECE") for variant in Variant]
    periods = [(each.name, each.scores) for each in report.periods.every]
    rows = [
        [
            name,
            f"{scores.rows:,}",
            _number(scores.base_rate),
            *(
                _number(values[variant])
                for values in (scores.log_loss, scores.auc, scores.ece)
                for variant in Variant
            ),
        ]
        for name, scores in [*periods, ("all", report.overall)]
    ]
    return _table(head, rows)


def _triggers(report: Report) -> str:
    head = ("as of", "cause", "evidence", "outcome", "version", "why")
    top = "".join(f'<th class="text">{name}</th>' for name in head)
    body = []
    for asked in folded(report.triggers):
        if (each := asked.trigger) is not None:
            words = evidence(each.cause, each.evidence)
            body.append(
                f'<tr><td class="text">{each.as_of:%Y-%m-%d}</td>'
                f'<td class="text">{escape(each.cause.replace("_", " "))}</td>'
                f'<td class="text said">{escape(words)}</td>'
                f'<td class="text">{escape(each.outcome)}</td>'
                f'<td class="text">{each.version or "-"}</td>'
                f'<td class="text said">{escape(each.reason or "")}</td></tr>'
            )
        if line := asked.fold():
            body.append(
                f'<tr class="more"><td></td><td class="text said" colspan="5">'
                f"{escape(line)}</td></tr>"
            )
    said = tally(report.triggers, [each.version for each in report.promotions])
    return f"<p>{escape(said)}.</p>" + _framed(top, "".join(body))


def _rollouts(report: Report) -> str:
    rows = [
        [
            f"{move.event_time:%Y-%m-%d}",
            move.variant,
            str(move.version),
            move.stage,
            move.reason or "",
        ]
        for move in report.replayed.history.moves
    ]
    return _table(["event time", "model", "version", "stage", "why"], rows, said=4)


def _invariants(report: Report) -> str:
    rows = [
        [each.name.replace("_", " "), str(each.violations), "; ".join(each.examples)]
        for each in report.findings
    ]
    return _table(["invariant", "violations", "examples"], rows, said=2)


def _trace(report: Report) -> str:
    if report.trace is None:
        return ""
    services = ", ".join(report.trace.services) or "not looked up"
    what = "from an alarm to its route" if report.trace.whole else "of an alarm, in part"
    shown = f"<code>{escape(report.trace.trace_id)}</code>"
    if report.trace.url:
        shown = f'<a href="{escape(report.trace.url)}">{shown}</a>'
    return f"<p>Trace {what}: {shown} ({report.trace.spans} spans; {escape(services)}).</p>"


def _table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, said: int | None = None
) -> str:
    """Return a table; of numbers, or of words, when one of its columns holds sentences.

    Args:
        head: names of the columns.
        rows: text of each cell.
        said: the column of sentences: those alone are broken over lines.
    """
    kinds = ["" if said is None else "text"] * len(head)
    if said is not None:
        kinds[said] = "text said"
    top = "".join(
        f'<th class="{kind}">{escape(name)}</th>'
        for kind, name in zip(kinds, head, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{kind}">{escape(cell)}</td>'
            for kind, cell in zip(kinds, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return _framed(top, body)


def _framed(head: str, body: str) -> str:
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _date(time_us: int) -> str:
    return text(time_us)[:10]
