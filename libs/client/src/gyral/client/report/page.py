"""report.html: one file that needs nothing else, light or dark as its reader's screen is."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from html import escape

from gyral.client.replay.moments import text
from gyral.client.replay.variants import Variant
from gyral.client.report.chart import Chart, Mark
from gyral.client.report.content import Report
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
th:first-child, td:first-child, td.text, th.text { text-align: left;
  overflow-wrap: anywhere; }
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
.bad { color: var(--bad); font-weight: 600; }
.good { color: var(--good); }
"""
_KEY = (
    ("frozen", "frozen"),
    ("timer", "every 28 d"),
    ("loop", "the loop"),
    ("good", "promoted"),
    ("bad", "rejected"),
    ("soft", "asked for"),
)


def render(report: Report) -> str:
    """Return the page."""
    days = report.replayed.schedule.days
    start, end = _date(days[0].start_us), _date(days[-1].end_us)
    lead = (
        f"{report.overall.rows:,} labelled predictions, {start} to {end} in event time, "
        f"replayed in {report.wall_s:.0f} s."
    )
    body = [
        f"<h1>{escape(report.model)}: what the loop gained</h1>",
        f'<p class="lead">{escape(lead)}</p>',
        _cards(report),
        _key(),
        *(_chart(report, title, pick).svg() for title, pick in _PICKS),
        "<h2>Month by month</h2>",
        _months(report),
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


_PICKS: tuple[tuple[str, Callable[[Summary], Scores]], ...] = (
    ("Log-loss by month (lower is better)", lambda month: month.log_loss),
    ("AUC by month (higher is better)", lambda month: month.auc),
    ("Calibration error by month (lower is better)", lambda month: month.ece),
)


def _chart(report: Report, title: str, pick: Callable[[Summary], Scores]) -> Chart:
    months = list(report.months)
    lines = {
        variant.value: [pick(report.months[month])[variant] for month in months]
        for variant in Variant
    }
    marks = [
        Mark(_position(moment, months), "promoted", f"version {each.version} promoted")
        for each in report.promotions
        if (moment := report.taken_over(each)) is not None
    ]
    for each in report.triggers:
        kind = {"rejected": "rejected", "approved": "asked"}.get(each.outcome)
        if kind is not None:
            shown = f"{each.cause} on {each.as_of:%Y-%m-%d}: {each.outcome}"
            marks.append(Mark(_position(each.as_of, months), kind, shown))
    return Chart(title, months, lines, marks)


def _position(time: datetime, months: Sequence[str]) -> float:
    """Return where a time lies between months, each standing at its middle."""
    first = datetime.fromisoformat(f"{months[0]}-01").replace(tzinfo=time.tzinfo)
    whole = (time.year - first.year) * 12 + time.month - first.month
    following = (time.replace(day=28) + timedelta(days=4)).replace(day=1)
    length = (following - timedelta(days=1)).day
    return whole + (time.day - 1) / length - 0.5


def _cards(report: Report) -> str:
    gain, tally = report.loop_gain, report.replayed.tally
    closing = [each.closing_s for each in report.closed]
    cards = (
        (_number(gain.mean), f"nats gained over frozen, 95 % sure of {_number(gain.lower95)}"),
        (str(len(report.promotions)), f"promotions out of {len(report.triggers)} requests"),
        (str(len(report.rejections)), "challengers rejected"),
        (
            f"{max(closing):.1f} s" if closing else "-",
            "longest from alarm to a rollout's first step, training apart",
        ),
        (f"{tally.predictions:,}", "predictions answered"),
        (f"{sum(each.violations for each in report.findings)}", "invariants' violations"),
    )
    inner = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(said)}</span></div>'
        for value, said in cards
    )
    return f'<div class="cards">{inner}</div>'


def _key() -> str:
    inner = "".join(
        f'<i style="background:var(--{colour})"></i>{escape(said)}' for colour, said in _KEY
    )
    return f'<p class="key">{inner}</p>'


def _months(report: Report) -> str:
    head = ["month", "rows", "share positive"]
    head += [f"{name} {variant}" for name in ("log-loss", "AUC", "ECE") for variant in Variant]
    rows = [
        [
            month,
            f"{scores.rows:,}",
            _number(scores.base_rate),
            *(
                _number(values[variant])
                for values in (scores.log_loss, scores.auc, scores.ece)
                for variant in Variant
            ),
        ]
        for month, scores in [*report.months.items(), ("all", report.overall)]
    ]
    return _table(head, rows)


def _triggers(report: Report) -> str:
    rows = [
        [
            f"{each.as_of:%Y-%m-%d}",
            each.cause,
            ", ".join(f"{name} {_cell(value)}" for name, value in each.evidence.items()),
            each.outcome,
            str(each.version or "-"),
            each.reason or "",
        ]
        for each in report.triggers
    ]
    return _table(["as of", "cause", "evidence", "outcome", "version", "why"], rows, words=True)


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
    return _table(["event time", "model", "version", "stage", "why"], rows, words=True)


def _invariants(report: Report) -> str:
    rows = [
        [each.name, str(each.violations), "; ".join(each.examples)] for each in report.findings
    ]
    return _table(["invariant", "violations", "examples"], rows, words=True)


def _trace(report: Report) -> str:
    if report.trace is None:
        return ""
    services = ", ".join(report.trace.services) or "not looked up"
    what = "from an alarm to its route" if report.trace.whole else "of an alarm, in part"
    return (
        f"<p>Trace {what}: <code>{escape(report.trace.trace_id)}</code> "
        f"({report.trace.spans} spans; {escape(services)}).</p>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: bool = False) -> str:
    kind = ' class="text"' if words else ""
    top = "".join(f"<th{kind}>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _date(time_us: int) -> str:
    return text(time_us)[:10]
