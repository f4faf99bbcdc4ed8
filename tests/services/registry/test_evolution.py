"""How a stream may change: what widens applies at once, what would break a row is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.contracts.specs.stream import StreamBody
from gyral.registry.domain.evolution import check_compatible
from gyral.registry.domain.specs import IncompatibleSpecError

FIELDS: dict[str, dict[str, object]] = {
    "id": {"type": "string"},
    "at": {"type": "timestamp"},
    "seen": {"type": "timestamp"},
    "age": {"type": "number", "minimum": 0, "maximum": 120, "unit": "a", "nullable": True},
    "free": {"type": "integer"},
    "kind": {"type": "string", "allowed": ["a", "b"], "description": "of visit"},
    "code": {"type": "string", "pattern": "^[a-z]+$", "max_length": 8},
}


def a_body(fields=None, **changes):
    given = {
        "key": "id",
        "event_time": "at",
        "clock": "event",
        "lateness": "1h",
        "dedupe": "7d",
    }
    return StreamBody.model_validate({**given, **changes, "fields": fields or FIELDS})


def with_field(name, **changes):
    return a_body({**FIELDS, name: {**FIELDS.get(name, {}), **changes}})


@pytest.mark.parametrize(
    "after",
    [
        a_body(),
        with_field("new", type="number", nullable=True),
        with_field("age", minimum=-1),
        with_field("age", maximum=130.5),
        with_field("age", minimum=None, maximum=None),
        with_field("age", description="in years"),
        with_field("free", nullable=True),
        with_field("kind", allowed=["c", "b", "a"]),
        with_field("kind", allowed=None),
        with_field("kind", description=None),
        with_field("code", pattern=None),
        with_field("code", max_length=9),
        a_body(lateness="61m"),
        a_body(dedupe="1w"),
        a_body(dedupe="30d"),
        a_body(retention="30d"),
    ],
)
def test_what_widens_applies_at_once(after):
    check_compatible(a_body(), after)


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        (with_field("age", type="integer"), "fields.age.type: expected number as before"),
        (
            a_body({name: FIELDS[name] for name in FIELDS if name != "age"}),
            "fields.age: expected the field to stay; found it gone",
        ),
        (with_field("age", minimum=1), "fields.age.minimum: expected at most 0 as before"),
        (with_field("free", minimum=0), "fields.free.minimum: expected none as before"),
        (with_field("age", maximum=119), "fields.age.maximum: expected at least 120 as before"),
        (with_field("free", maximum=9), "fields.free.maximum: expected none as before"),
        (with_field("kind", allowed=["a"]), "fields.kind.allowed: expected 'b' allowed"),
        (with_field("code", allowed=["x"]), "fields.code.allowed: expected any value allowed"),
        (
            with_field("code", pattern="^[a-z]*$"),
            r"fields.code.pattern: expected ^[a-z]+$ as before; found ^[a-z]*$",
        ),
        (with_field("kind", pattern="^."), "fields.kind.pattern: expected none as before"),
        (
            with_field("code", max_length=7),
            "fields.code.max_length: expected at least 8 as before; found 7",
        ),
        (
            with_field("age", nullable=False),
            "fields.age.nullable: expected true as before; found False",
        ),
        (with_field("new", type="number"), "fields.new.nullable: expected true for a new"),
        (with_field("age", unit="months"), "fields.age.unit: expected a as before"),
        (with_field("age", unit=None), "fields.age.unit: expected a as before; found none"),
        (with_field("free", unit="seats"), "fields.free.unit: expected none as before"),
        (a_body(key="kind"), "key: expected id as before; found kind"),
        (a_body(event_time="seen"), "event_time: expected at as before; found seen"),
        (a_body(clock="wall"), "clock: expected event as before; found wall"),
        (a_body(lateness="59m"), "lateness: expected at least 1h as before; found 59m"),
        (a_body(dedupe="6d"), "dedupe: expected at least 7d as before; found 6d"),
    ],
)
def test_what_breaks_rows_or_readers_is_refused_with_what_to_do(after, problem):
    with pytest.raises(IncompatibleSpecError) as refused:
        check_compatible(a_body(), after)
    assert str(refused.value).startswith(problem)
    assert str(refused.value).endswith(": declare a new stream for such rows")
    assert refused.value.field == problem.partition(":")[0]


bounds = st.none() | st.integers(-5, 5)


@given(bounds, bounds, bounds, bounds, st.integers(-7, 7))
def test_a_range_that_is_compatible_takes_every_number_the_old_one_took(a, b, c, d, number):
    def body(low, high):
        return with_field("free", minimum=low, maximum=high)

    def takes(low, high):
        return (low is None or number >= low) and (high is None or number <= high)

    if (None not in (a, b) and a > b) or (None not in (c, d) and c > d):
        return
    try:
        check_compatible(body(a, b), body(c, d))
    except IncompatibleSpecError:
        return
    assert takes(c, d) or not takes(a, b)


WHO = {"type": "string", "personal": True}


def test_nothing_becomes_personal_later_and_nothing_stops_being_it():
    of_nobody = a_body()
    before = a_body({**FIELDS, "who": WHO}, subject="who")
    longer = {**WHO, "max_length": 999}
    check_compatible(before, a_body({**FIELDS, "who": longer}, subject="who"))
    more = a_body({**FIELDS, "who": WHO, "mail": {**WHO, "nullable": True}}, subject="who")
    check_compatible(before, more)
    plain = {"type": "string", "nullable": True}
    with pytest.raises(IncompatibleSpecError, match="subject: expected none as before"):
        check_compatible(of_nobody, a_body({**FIELDS, "who": WHO}, subject="who"))
    with pytest.raises(IncompatibleSpecError, match="personal: expected True"):
        check_compatible(more, a_body({**FIELDS, "who": WHO, "mail": plain}, subject="who"))
    two = a_body({**FIELDS, "who": WHO, "mail": WHO}, subject="who")
    with pytest.raises(IncompatibleSpecError, match="subject: expected who as before"):
        check_compatible(two, a_body({**FIELDS, "who": WHO, "mail": WHO}, subject="mail"))


def test_what_is_expected_of_blocks_may_come_change_and_go():
    some = a_body(expectations=[{"name": "enough", "kind": "row_count", "at_least": 9}])
    for before, after in ((a_body(), some), (some, a_body())):
        check_compatible(before, after)
