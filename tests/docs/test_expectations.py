"""The page of expectations shows a stream that can be declared, with one of each kind."""

import re
from typing import get_args

import pytest
import yaml

from gyral.contracts.specs.expectations import Expectation
from gyral.contracts.specs.stream import StreamSpec
from tests.docs import pages

PAGE = (pages.ROOT / "docs" / "expectations.md").read_text()
KINDS = {
    get_args(kind.model_fields["kind"].annotation)[0]
    for kind in get_args(get_args(Expectation)[0])
}


def shown():
    [document] = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return yaml.safe_load(document)


def test_the_stream_that_is_shown_has_an_expectation_of_each_kind():
    spec = StreamSpec.model_validate(shown())
    assert {one.kind for one in spec.spec.expectations} == KINDS
    listed = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert set(listed) == KINDS


def test_what_the_page_says_is_refused_is_refused():
    document = shown()
    document["spec"]["fields"]["country"].pop("allowed")
    document["spec"]["expectations"] = [
        {"name": "mix", "kind": "distribution", "field": "country", "at_most": 0.2}
    ]
    with pytest.raises(ValueError, match="expected a string with allowed values"):
        StreamSpec.model_validate(document)
