"""The check that refuses a breaking change, shown on planted pairs.

And no released schema is broken.
"""

import copy
import json
from pathlib import Path

import pytest

from gyral.contracts import documents
from gyral.contracts.compatibility import breaks

RELEASED = Path(__file__).parents[2] / "contracts" / "released"
OLD = {
    "type": "object",
    "additionalProperties": False,
    "required": ["model", "rows"],
    "properties": {
        "model": {"type": "string", "pattern": "^[a-z]+$"},
        "rows": {"type": "integer", "minimum": 0},
        "at": {"type": "string", "format": "date-time"},
        "kind": {"enum": ["a", "b"]},
    },
}


def changed(change):
    new = copy.deepcopy(OLD)
    change(new)
    return new


def test_an_optional_field_may_be_added():
    def grow(schema):
        schema["properties"]["note"] = {"type": "string"}

    assert breaks(OLD, changed(grow)) == []
    assert breaks(OLD, OLD) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["properties"].pop("at"),
        lambda s: s["required"].append("at"),
        lambda s: s["required"].remove("rows"),
        lambda s: s["properties"]["rows"].update(type="string"),
        lambda s: s["properties"]["rows"].update(minimum=1),
        lambda s: s["properties"]["model"].update(pattern="^[a-z0-9]+$"),
        lambda s: s["properties"]["model"].pop("pattern"),
        lambda s: s["properties"]["at"].update(format="date"),
        lambda s: s["properties"]["kind"].update(enum=["a"]),
        lambda s: (
            s["properties"].update(note={"type": "string"}) or s["required"].append("note")
        ),
    ],
    ids=[
        "a field is gone",
        "a field became required",
        "a required field became optional",
        "another type",
        "a stricter range",
        "another pattern",
        "no pattern any more",
        "another format",
        "a value is gone",
        "a new required field",
    ],
)
def test_a_breaking_change_is_refused(change):
    assert breaks(OLD, changed(change))


def test_no_released_schema_is_broken():
    today = dict(documents.schemas())
    released = sorted(RELEASED.glob("*.json"))
    assert len(released) >= 30
    for path in released:
        assert path.name in today, f"{path.name} was released and is gone"
        assert breaks(json.loads(path.read_text()), today[path.name]) == []


def test_a_breaking_change_of_a_released_schema_would_be_refused():
    released = json.loads((RELEASED / "data.record.submitted.v1.json").read_text())
    narrower = copy.deepcopy(released)
    narrower["properties"]["record_key"]["maxLength"] = 10
    assert breaks(released, narrower) != []
