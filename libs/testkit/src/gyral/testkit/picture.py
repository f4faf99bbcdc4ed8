"""Draws pictures of charts; the README's, docs/images/report.svg, from a replay's report."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from pathlib import Path

from pydantic import BaseModel

from gyral.client.report.chart import HEIGHT, WIDTH, Chart, Mark
from gyral.testkit.openapi import ROOT

TARGET = ROOT / "docs" / "images" / "report.svg"
_HEAD, _GAP = 92, 12
_KEY_WIDTH = 165
_FRAME = """
svg { font-family: system-ui, sans-serif; --ink: #1d2330; --soft: #667085; --line: #e3e7ee;
  --page: #fff; --grey: #98a2b3; --amber: #d97706; --blue: #2563eb; --green: #16803c;
  --red: #c0262d; }
@media (prefers-color-scheme: dark) { svg { --ink: #e6e9ef; --soft: #98a2b3; --line: #2c3442;
  --page: #12161d; --grey: #7a8497; --amber: #f2a33a; --blue: #6ea8fe; --green: #4cc277;
  --red: #f2777d; } }
.page { fill: var(--page); } .head { fill: var(--ink); font-size: 17px; font-weight: 600; }
.said { fill: var(--soft); font-size: 13px; }
.title { fill: var(--ink); font-size: 13px; font-weight: 600; }
.tick { fill: var(--soft); font-size: 11px; } .grid { stroke: var(--line); }
.line polyline { fill: none; stroke-width: 2.2; }
.mark line { stroke-dasharray: 3 3; opacity: .55; }
"""


@dataclass(frozen=True, slots=True)
class Line:
    """What a line or a mark of a picture's charts stands for."""

    kind: str
    """Its class in the charts."""
    said: str
    colour: str
    """One of grey, amber, blue, green and red: each has a light and a dark shade."""

    def style(self) -> str:
        """Return the rules that colour it."""
        shade = f"var(--{self.colour})"
        return (
            f".{self.kind} polyline, .{self.kind} line {{ stroke: {shade}; }} "
            f".{self.kind} circle {{ fill: {shade}; }}\n"
        )


_KEY = (
    Line("frozen", "never retrained", "grey"),
    Line("timer", "every 28 days", "amber"),
    Line("loop", "the loop", "blue"),
    Line("promoted", "promoted", "green"),
    Line("rejected", "rejected", "red"),
)


class Month(BaseModel):
    """A month of the report; scores by how the model was kept."""

    month: str
    log_loss: Mapping[str, float | None]
    auc: Mapping[str, float | None]


class Promotion(BaseModel):
    """A version that took over."""

    version: int
    event_time: datetime


class Rejection(BaseModel):
    """A challenger that failed a gate."""

    cause: str
    as_of: datetime


class Gain(BaseModel):
    """What the loop gained over the frozen model, in nats."""

    mean: float
    lower95: float


class Report(BaseModel):
    """What the picture shows of report.json."""

    model: str
    rows: int
    months: Sequence[Month]
    log_loss_gain: Gain
    promoted: Sequence[Promotion]
    rejected: Sequence[Rejection]


def draw(report: Report) -> str:
    """Return the picture, light or dark as its reader's screen is."""
    months = [each.month for each in report.months]
    marks = [
        *(
            Mark(_position(each.event_time, months), "promoted", f"version {each.version}")
            for each in report.promoted
        ),
        *(
            Mark(_position(each.as_of, months), "rejected", each.cause)
            for each in report.rejected
        ),
    ]
    charts = [
        Chart(title, months, lines, marks)
        for title, lines in (
            ("Log-loss by month (lower is better)", _lines(report, "log_loss")),
            ("AUC by month (higher is better)", _lines(report, "auc")),
        )
    ]
    gain = report.log_loss_gain
    said = (
        f"{report.rows:,} labelled predictions; the loop gained {gain.mean:.4f} nats over the "
        f"frozen model (95 % lower bound {gain.lower95:.4f})"
    )
    return composed(
        f"{report.model}: frozen, on a timer, in the loop", said, key=_KEY, charts=charts
    )


def composed(title: str, said: str, *, key: Sequence[Line], charts: Sequence[Chart]) -> str:
    """Return charts under one head and one key, light or dark as the reader's screen is."""
    height = _HEAD + len(charts) * (HEIGHT + _GAP)
    placed = [
        chart.svg().replace(
            "<svg ", f'<svg x="0" y="{top}" width="{WIDTH}" height="{HEIGHT}" ', 1
        )
        for at, chart in enumerate(charts)
        for top in [_HEAD + at * (HEIGHT + _GAP)]
    ]
    style = _FRAME + "".join(line.style() for line in key)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">'
        f'<style>{style}</style><rect class="page" width="{WIDTH}" height="{height}" rx="8"/>'
        f'<text class="head" x="24" y="32">{escape(title)}</text>'
        f'<text class="said" x="24" y="54">{escape(said)}</text>'
        f"{_drawn(key)}{''.join(placed)}</svg>\n"
    )


def main(arguments: Sequence[str]) -> int:
    """Draw the report named, or that of the demo."""
    source = Path(arguments[0]) if arguments else ROOT / "out" / "demo" / "report.json"
    if not source.exists():
        sys.stderr.write(f"{source}: expected a report; found nothing: run `make demo`\n")
        return 1
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(draw(Report.model_validate_json(source.read_text())), encoding="utf-8")
    return 0


def _lines(report: Report, score: str) -> Mapping[str, Sequence[float | None]]:
    return {
        variant: [getattr(month, score).get(variant) for month in report.months]
        for variant in ("frozen", "timer", "loop")
    }


def _drawn(key: Sequence[Line]) -> str:
    parts = [
        f'<g class="{line.kind}"><circle cx="{30 + at * _KEY_WIDTH}" cy="74" r="5"/></g>'
        f'<text class="said" x="{40 + at * _KEY_WIDTH}" y="78">{escape(line.said)}</text>'
        for at, line in enumerate(key)
    ]
    return "".join(parts)


def _position(time: datetime, months: Sequence[str]) -> float:
    """Return where a time lies between months, each standing at its middle."""
    first = datetime.fromisoformat(f"{months[0]}-01")
    whole = (time.year - first.year) * 12 + time.month - first.month
    days = ((time.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)).day
    return whole + (time.day - 1) / days - 0.5


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
