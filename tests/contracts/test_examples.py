"""Golden examples.

Every valid one parses and round-trips, every invalid one is refused, by model and schema alike.
"""

import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from gyral.contracts.catalogue import EVENTS
from gyral.contracts.documents import schema_of

EXAMPLES = Path(__file__).parents[2] / "contracts" / "examples"


def examples(kind):
    for event in EVENTS:
        for number, example in enumerate(
            json.loads((EXAMPLES / event.topic.name / f"{kind}.json").read_text())
        ):
            yield pytest.param(event, example, id=f"{event.topic.name}-{number}")


@pytest.mark.parametrize(("event", "example"), list(examples("valid")))
def test_a_valid_example_parses_and_round_trips(event, example):
    parsed = event.model_validate_json(json.dumps(example))
    again = event.model_validate_json(parsed.model_dump_json())
    assert again == parsed
    assert parsed.key
    jsonschema.validate(example, schema_of(event))


@pytest.mark.parametrize(("event", "example"), list(examples("invalid")))
def test_an_invalid_example_is_refused(event, example):
    with pytest.raises(ValidationError):
        event.model_validate_json(json.dumps(example["data"]))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(example["data"], schema_of(event))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.topic.name)
def test_a_reader_ignores_fields_added_later(event):
    [example, *_] = json.loads((EXAMPLES / event.topic.name / "valid.json").read_text())
    event.model_validate_json(json.dumps(example | {"added_in_2027": 1}), extra="ignore")
