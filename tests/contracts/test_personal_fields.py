"""Personal fields as they are declared: text, of a stream that says whose its rows are."""

import pytest
from pydantic import ValidationError

from gyral.contracts.specs.stream import StreamSpec

FIELDS = {
    "id": {"type": "string"},
    "at": {"type": "timestamp"},
    "who": {"type": "string", "personal": True},
    "mail": {"type": "string", "personal": True, "nullable": True, "max_length": 320},
}


def a_spec(fields=FIELDS, **body):
    return StreamSpec.model_validate(
        {
            "apiVersion": "gyral/v1",
            "kind": "Stream",
            "metadata": {"name": "visits"},
            "spec": {"key": "id", "event_time": "at", "fields": fields, **body},
        }
    )


def test_a_stream_with_a_subject_has_personal_fields():
    assert a_spec(subject="who").spec.personal == ("who", "mail")
    assert a_spec(subject="who", key="who").spec.subject == "who"


@pytest.mark.parametrize(
    ("field", "body", "problem"),
    [
        ({}, {}, "subject: expected the personal field that says whose a row is"),
        ({}, {"subject": "mail"}, "subject: expected a personal field that is not nullable"),
        ({}, {"subject": "id"}, "subject: expected a personal field"),
        ({}, {"subject": "nobody"}, "subject: expected a personal field"),
        ({"who": {"type": "integer", "personal": True}}, {}, "personal: expected a string"),
        ({"at": {"type": "timestamp", "personal": True}}, {}, "personal: expected a string"),
        (
            {"who": {"type": "string", "personal": True, "allowed": ["a"]}},
            {},
            "personal: expected a field without allowed values or a pattern",
        ),
        (
            {"who": {"type": "string", "personal": True, "pattern": "^a"}},
            {},
            "personal: expected a field without allowed values or a pattern",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_when_it_is_declared(field, body, problem):
    with pytest.raises(ValidationError, match=problem):
        a_spec(FIELDS | field, **body)


def test_a_stream_of_nobody_is_the_same_document_as_before():
    plain = a_spec({name: FIELDS[name] for name in ("id", "at")})
    written = plain.model_dump_json()
    assert "personal" not in written
    assert "subject" not in written
    marked = a_spec(subject="who")
    assert StreamSpec.model_validate_json(marked.model_dump_json()) == marked
