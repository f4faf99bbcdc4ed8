"""What is expected of blocks: counted in any order, judged once, the same in every replay."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gyral.contracts.specs.expectations import Severity
from gyral.validation.domain.blocks import Counts, Place, merged
from gyral.validation.domain.expectations import expected_of
from gyral.validation.domain.outcomes import (
    MOST_BLOCKS,
    Outcome,
    Position,
    close,
    usable_until,
)
from gyral.validation.domain.watermark import PartitionTime
from tests.services.validation.expecting import EVERY, HOUR, a_batch, a_body, watched

MINUTE = HOUR // 60
EXPECTED = expected_of(a_body(*EVERY), 1)


def counts(rows, *values, digests=False):
    if digests:
        return Counts(rows, np.array(values, dtype=np.uint64))
    return Counts(rows, np.array(values, dtype=np.int64))


def close_all(one, counted, watermark_us, position=None):
    position = position or Position(one.name, one.measure.id)
    return close(one, position, counted, watermark_us)


@pytest.mark.parametrize(
    ("expectation", "said"),
    [
        ({"kind": "null_share", "field": "late", "at_most": 0.1}, "nullable field"),
        ({"kind": "null_share", "field": "nothing", "at_most": 0.1}, "declared fields"),
        ({"kind": "distinct_count", "field": "delay", "at_least": 1}, "string, integer"),
        ({"kind": "distribution", "field": "id", "at_most": 0.1}, "allowed values"),
        ({"kind": "distribution", "field": "seats", "at_most": 0.1}, "greater maximum"),
        ({"kind": "distribution", "field": "at", "at_most": 0.1}, "timestamp"),
        ({"kind": "row_count"}, "at_least, at_most or both"),
        ({"kind": "row_count", "at_least": 2, "at_most": 1}, "at_least <= at_most"),
        ({"kind": "row_count", "at_least": 2, "over": "10s"}, "1m to 366d"),
        ({"kind": "row_count", "at_least": 2, "field": "delay"}, "Extra inputs"),
        ({"kind": "spread", "at_least": 2}, "kind"),
    ],
)
def test_what_can_never_be_judged_is_refused_when_it_is_declared(expectation, said):
    with pytest.raises(ValidationError, match=said):
        a_body({"name": "wrong", **expectation})


def test_two_expectations_of_one_name_are_refused():
    twice = {"name": "enough", "kind": "row_count", "at_least": 1}
    with pytest.raises(ValidationError, match="name of its own"):
        a_body(twice, twice)


def test_every_kind_counts_what_it_says():
    batch = a_batch(
        EXPECTED,
        [1 * MINUTE, 2 * MINUTE, 50 * MINUTE, HOUR + 7],
        carrier=["AA", None, "UA", "AA"],
        delay=[0.0, None, 99.0, None],
        late=[True, False, False, True],
        seats=[4, 4, 5, -4],
    )
    promised = batch.promised_us({}, 0)
    found = {}
    for one in EXPECTED.watched:
        counted, late = batch.counts({one.measure: None}, promised)
        assert late == 0
        found[one.name] = {(at.block_us, at.partition): held for at, held in counted.items()}
        assert [(place, held.rows) for place, held in found[one.name].items()] == [
            ((0, 0), 3),
            ((HOUR, 0), 1),
        ]
    first = {name: held[0, 0].values.tolist() for name, held in found.items()}
    assert first["present"] == [1]
    assert (len(first["carriers"]), len(first["planes"])) == (2, 2)
    assert (first["enough"], first["fresh"]) == ([], [50 * MINUTE])
    assert first["delays"] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    assert first["mix"] == [1, 1, 0, 0, 1]
    assert first["lateness"] == [2, 1, 0]


def test_a_row_is_late_when_its_own_partition_had_promised_its_block():
    before = {0: PartitionTime(data_us=HOUR), 1: PartitionTime(marker_us=2 * HOUR)}
    batch = a_batch(
        EXPECTED,
        [HOUR + 1, 2 * HOUR + MINUTE, HOUR + 2, HOUR + 3],
        partitions=[0, 0, 0, 1],
        offsets=[5, 6, 9, 3],
    )
    measure = EXPECTED.watched[3].measure
    counted, late = batch.counts({measure: None}, batch.promised_us(before, 0))
    rows = {(at.block_us, at.partition): held.rows for at, held in counted.items()}
    assert (rows, late) == (
        {(HOUR, 0): 1, (2 * HOUR, 0): 1},
        2,
    )
    _, late = batch.counts({measure: None}, batch.promised_us(before, 2 * MINUTE))
    assert late == 1


def test_a_marker_promises_for_the_rows_behind_it_only():
    batch = a_batch(
        EXPECTED, [10, 20], offsets=[4, 6], markers=[(0, 5, HOUR), (1, 3, 9 * HOUR)]
    )
    measure = EXPECTED.watched[3].measure
    counted, late = batch.counts({measure: None}, batch.promised_us({}, 0))
    assert ([held.rows for held in counted.values()], late) == ([1], 1)


ROWS = st.lists(
    st.tuples(
        st.integers(0, 5 * HOUR),
        st.integers(0, 2),
        st.sampled_from(["AA", "UA", "DL", None]),
        st.one_of(st.none(), st.floats(0, 100)),
        st.booleans(),
        st.integers(-5, 5),
    ),
    max_size=40,
)


def batch_of(rows, first):
    """Return rows as a batch, with offsets from `first` on."""
    order = sorted(range(len(rows)), key=lambda at: (rows[at][1], at))
    columns = list(zip(*(rows[at] for at in order), strict=True)) or [()] * 6
    return a_batch(
        EXPECTED,
        list(columns[0]),
        partitions=list(columns[1]),
        offsets=[first + at for at in order],
        carrier=list(columns[2]),
        delay=list(columns[3]),
        late=list(columns[4]),
        seats=list(columns[5]),
    )


def totals(batches, lateness_us):
    """Count batch after batch as the sink does: each after what the ones before it showed."""
    measures = {one.id: one for one in EXPECTED.measures}
    found: dict[Place, Counts] = {}
    times: dict[int, PartitionTime] = {}
    late = 0
    for batch in batches:
        promised = batch.promised_us(times, lateness_us)
        held, missed = batch.counts(dict.fromkeys(EXPECTED.measures), promised)
        late += missed
        for place, part in held.items():
            measure = measures[place.measure]
            found[place] = merged(measure, found[place], part) if place in found else part
        for partition in set(batch.partitions.tolist()):
            newest = int(batch.times_us[batch.partitions == partition].max())
            seen = times.get(partition, PartitionTime())
            times[partition] = seen.merged(PartitionTime(data_us=newest))
    return {key: (part.rows, part.values.tolist()) for key, part in found.items()}, late


@given(ROWS, st.lists(st.integers(0, 40), max_size=4), st.sampled_from([0, MINUTE, 2 * HOUR]))
def test_wherever_batches_end_the_counts_are_those_of_one_pass(rows, cuts, lateness_us):
    edges = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    pieces = [batch_of(rows[start:end], start) for start, end in pairwise(edges)]
    whole = [batch_of(rows, 0)] if rows else []
    assert totals(pieces, lateness_us) == totals(whole, lateness_us)


@given(ROWS, st.permutations(range(4)))
def test_parts_merge_to_the_whole_in_any_order(rows, order):
    whole, _ = totals([batch_of(rows, 0)], 9 * HOUR) if rows else ({}, 0)
    parts = [batch_of(rows[at::4], at) for at in order if rows[at::4]]
    found, _ = totals(parts, 9 * HOUR)
    assert found == whole


def test_what_a_block_comes_to_is_judged_by_its_limits():
    one = watched("null_share", field="delay", at_most=0.25, min_rows=4)
    counted = {
        0: counts(4, 1),
        HOUR: counts(4, 2),
        2 * HOUR: counts(3, 3),
        3 * HOUR: counts(9, 9),
    }
    judged, position = close_all(one, counted, 3 * HOUR + 1)
    assert [(each.start_us, each.measured, each.outcome) for each in judged] == [
        (0, 0.25, Outcome.PASSED),
        (HOUR, 0.5, Outcome.FAILED),
        (2 * HOUR, 1.0, Outcome.SKIPPED),
    ]
    assert position.next_us == 3 * HOUR
    assert close_all(one, {3 * HOUR: counted[3 * HOUR]}, 3 * HOUR + 1, position) == (
        [],
        position,
    )


def test_the_first_of_several_failures_is_told():
    one = watched("distinct_count", field="seats", at_most=1)
    full, one_value = counts(5, 1, 2, digests=True), counts(5, 1, digests=True)
    hours = [full, full, one_value, full]
    counted = {at * HOUR: held for at, held in enumerate(hours)}
    judged, _ = close_all(one, counted, 4 * HOUR)
    assert [each.told for each in judged] == [True, False, False, True]


def test_blocks_without_rows_count_where_rows_are_expected():
    one = watched("row_count", at_least=1)
    judged, position = close_all(one, {HOUR: counts(9), 3 * HOUR: counts(2)}, 5 * HOUR)
    assert [(each.start_us // HOUR, each.outcome) for each in judged] == [
        (2, Outcome.FAILED),
        (3, Outcome.PASSED),
        (4, Outcome.FAILED),
    ]
    assert position.next_us == 5 * HOUR


def test_a_blocks_age_is_that_of_the_newest_row_up_to_its_end():
    one = watched("freshness", at_most="90m")
    counted = {0: counts(1, HOUR - MINUTE), 2 * HOUR: counts(1, 2 * HOUR + MINUTE)}
    judged, _ = close_all(one, counted, 4 * HOUR)
    assert [(each.measured, each.outcome) for each in judged] == [
        (61 * 60, Outcome.PASSED),
        (59 * 60, Outcome.PASSED),
        (119 * 60, Outcome.FAILED),
    ]


def test_a_distribution_is_compared_with_the_last_block_that_passed():
    one = watched("distribution", field="late", at_most=0.3, min_rows=10)
    counted = {
        0: counts(20, 10, 10, 0),
        HOUR: counts(20, 0, 20, 0),
        2 * HOUR: counts(5, 0, 5, 0),
        3 * HOUR: counts(20, 11, 9, 0),
    }
    judged, position = close_all(one, counted, 4 * HOUR)
    outcomes = [each.outcome for each in judged]
    assert outcomes == [Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED, Outcome.PASSED]
    assert judged[0].measured is None
    assert judged[1].measured == pytest.approx(0.4645, abs=1e-4)
    assert judged[1].counts == (0, 20, 0)
    assert (position.reference, position.reference_us) == ((11, 9, 0), 3 * HOUR)


@given(st.sets(st.integers(0, 30)), st.lists(st.integers(0, 40), max_size=6), st.booleans())
def test_however_the_watermark_comes_the_outcomes_are_the_same(blocks, stops, empty):
    one = (
        watched("row_count", at_least=2)
        if empty
        else watched("null_share", field="delay", at_most=0.5)
    )
    counted = {at * HOUR: counts(1 + at % 3, at % 2) for at in blocks}
    stepwise, position = [], None
    for stop in [*sorted(stops), 41]:
        left = 0 if position is None or position.next_us is None else position.next_us
        open_ = {at: held for at, held in counted.items() if at >= left}
        judged, position = close_all(one, open_, stop * HOUR, position)
        stepwise += judged
    assert (stepwise, position) == close_all(one, counted, 41 * HOUR)


@pytest.mark.parametrize("kind", ["row_count", "null_share"])
def test_so_many_blocks_at_once_and_the_rest_later(kind):
    given = {"at_least": 1} if kind == "row_count" else {"field": "delay", "at_most": 0.5}
    one = watched(kind, **given)
    counted = {at * HOUR: counts(1, 1) for at in range(3 * MOST_BLOCKS)}
    position, seen, turns = None, [], 0
    while position is None or position.next_us < 3 * MOST_BLOCKS * HOUR:
        first = 0 if position is None else position.next_us
        known = [at for at in sorted(counted) if at >= first][: MOST_BLOCKS + 1]
        page = {at: counted[at] for at in known}
        judged, position = close_all(one, page, 3 * MOST_BLOCKS * HOUR, position)
        assert len(judged) <= MOST_BLOCKS
        seen += [each.start_us for each in judged]
        turns += 1
    assert seen == sorted(counted)[0 if kind == "null_share" else 1 :]
    assert turns == 3


def test_rows_may_be_used_up_to_the_last_block_that_passed():
    blocking = watched("row_count", at_least=1)
    warning = expected_of(a_body({"name": "w", "kind": "row_count", "at_least": 1}), 1).watched
    assert warning[0].severity is Severity.WARN
    reached = Position("one", blocking.measure.id, next_us=3 * HOUR)
    behind = Position("w", "", next_us=HOUR)
    watermark = 3 * HOUR + MINUTE
    assert usable_until(watermark, [], [], None) == watermark
    assert usable_until(watermark, warning, [behind], None) == watermark
    assert usable_until(watermark, [blocking, *warning], [reached, behind], None) == 3 * HOUR
    assert usable_until(watermark, [blocking], [reached], 2 * HOUR) == 2 * HOUR
    assert usable_until(watermark, [blocking], [Position("one", "")], None) == 0
    assert usable_until(None, [blocking], [reached], None) is None


def test_another_way_of_counting_has_other_counts():
    declared = {"name": "delays", "kind": "distribution", "field": "delay", "at_most": 0.3}
    wider = {"delay": {"type": "number", "minimum": 0, "maximum": 200, "nullable": True}}
    ids = {
        expected_of(body, 1).watched[0].measure.id
        for body in (
            a_body(declared),
            a_body({**declared, "bins": 20}),
            a_body({**declared, "over": "1d"}),
            a_body(declared, **wider),
        )
    }
    [other] = expected_of(a_body({**declared, "name": "x", "at_most": 0.2}), 7).watched
    assert len(ids) == 4
    assert other.measure.id in ids
