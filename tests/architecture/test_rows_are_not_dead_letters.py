"""Rows never become dead letters, which are kept as they came: no bus handler is given any."""

import re

import pytest

from gyral.contracts import data, inference
from tests.architecture.sources import ROOT

CARRY_ROWS = (data.RecordSubmitted, data.LabelsAccepted, inference.PredictionLogged)


@pytest.mark.parametrize("event", CARRY_ROWS)
def test_what_carries_rows_is_handled_by_no_bus(event):
    handled = re.compile(rf"\.on\(\s*{event.__name__}\b")
    sources = list((ROOT / "services").glob("*/src/**/*.py"))
    assert len(sources) > 100
    assert [path.name for path in sources if handled.search(path.read_text())] == []
