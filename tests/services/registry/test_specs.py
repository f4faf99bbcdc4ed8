"""Declaring anew: what is compatible, what retrains, when a first training is due."""

from datetime import timedelta

import pytest

from gyral.contracts.specs.stream import FieldType
from gyral.registry.domain.bootstrap import Asked, Data, Rules, bootstrap_as_of
from gyral.registry.domain.specs import (
    IncompatibleSpecError,
    check_feature_types,
    check_references,
    next_generation,
    retrains,
)
from tests.services.registry.builders import END, START, a_model, a_stream

WEEK = timedelta(days=7)


def test_the_same_content_keeps_its_generation():
    assert next_generation(3, "abc", "abc").number == 3
    assert next_generation(3, "abc", "xyz").number == 4
    assert next_generation(None, None, "xyz").changed


def test_only_a_change_of_data_label_or_recipe_retrains():
    assert not retrains(a_model().spec, a_model().spec)
    assert retrains(a_model().spec, a_model(seed=8).spec)


def test_a_declaration_that_trains_by_other_triggers_only_retrains_nothing():
    changed = a_model(seed=8).spec
    silent = changed.triggers.model_copy(update={"on_spec_change": False})
    assert not retrains(a_model().spec, changed.model_copy(update={"triggers": silent}))
    before = a_model().spec.model_copy(update={"triggers": silent})
    assert retrains(before, changed)


def test_another_block_needs_a_version_whose_reference_is_measured_in_it():
    before = a_model().spec
    hourly = before.monitor.model_copy(update={"block": "1h"})
    stricter = before.monitor.model_copy(update={"min_rows": 300})
    assert retrains(before, before.model_copy(update={"monitor": hourly}))
    assert not retrains(before, before.model_copy(update={"monitor": stricter}))


def test_a_model_may_read_declared_fields_only():
    orders = a_stream("orders", amount={"type": "number"})
    check_references(a_model().spec, features=a_stream(), labels=orders)
    with pytest.raises(IncompatibleSpecError, match="apply the stream first"):
        check_references(a_model().spec, features=None, labels=orders)
    with pytest.raises(IncompatibleSpecError, match="amount"):
        check_references(a_model().spec, features=a_stream(), labels=a_stream("orders"))


def test_a_model_reads_nothing_personal():
    orders = a_stream("orders", amount={"type": "number"})
    who = {"type": "string", "personal": True}
    check_references(a_model().spec, features=a_stream(subject="who", who=who), labels=orders)
    for features, labels, problem in (
        (a_stream(subject="pages", pages=who), orders, "features.fields"),
        (a_stream(subject="id", id=who), orders, "features.stream"),
        (
            a_stream(),
            a_stream("orders", subject="who", amount={"type": "number"}, who=who),
            "label.stream",
        ),
    ):
        with pytest.raises(IncompatibleSpecError, match="personal") as refused:
            check_references(a_model().spec, features=features, labels=labels)
        assert refused.value.field == problem


def test_a_feature_keeps_the_type_it_ever_had():
    orders = a_stream("orders", amount={"type": "number"})
    numbers = check_references(a_model().spec, features=a_stream(), labels=orders)
    check_feature_types({"other": FieldType.STRING}, numbers)
    check_feature_types(numbers, numbers)
    texts = check_references(
        a_model().spec, features=a_stream(pages={"type": "string"}), labels=orders
    )
    with pytest.raises(IncompatibleSpecError) as refused:
        check_feature_types(numbers, texts)
    assert str(refused.value) == (
        "features.fields.pages: expected type number as before; found string: "
        "give the field another name, or declare a new model"
    )


def rules(**changes):
    return Rules(**({"min_rows": 100, "bootstrap_at": None, "retry_after": WEEK} | changes))


def test_a_bootstrap_waits_for_rows_and_for_both_watermarks():
    full, empty = Data(100, END), Data(99, END)
    assert bootstrap_as_of(None, full, None, rules()) is None
    assert bootstrap_as_of(full, empty, None, rules()) is None
    assert bootstrap_as_of(full, Data(100, START), None, rules()) == START
    assert bootstrap_as_of(full, Data(100, START), None, rules(bootstrap_at=END)) is None
    assert bootstrap_as_of(full, full, None, rules(bootstrap_at=START)) == START


def test_a_failed_bootstrap_is_asked_for_again_only_after_a_while():
    full = Data(100, END)
    assert bootstrap_as_of(full, full, Asked(START, in_flight=True), rules()) is None
    assert bootstrap_as_of(full, full, Asked(END, in_flight=False), rules()) is None
    assert bootstrap_as_of(full, full, Asked(END - WEEK, in_flight=False), rules()) == END
