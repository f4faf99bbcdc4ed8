"""The checker finds what is planted: each kind of loss, doubling, change and wrong reject."""

import ast
import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from tests.chaos import journal, rows
from tests.chaos.checker import Fault, Landed, Parked, Pinned, State, compare
from tests.chaos.journal import Journal, Outcome, Way
from tests.chaos.plans import VICTIMS, Kind, long_plan, short_plan

SEED = 7
STREAM = "s"
GOOD = [rows.good(SEED, STREAM, number, 1 + number % 2) for number in range(6)]
REFUSED = rows.bad(SEED, STREAM, list(rows.MAKERS).index("out of range"))
AT_DOOR = rows.bad(SEED, STREAM, list(rows.MAKERS).index("cut short"))
OTHER = rows.conflict(GOOD[0])
SHA256 = {row.key: sha256(row.value or b"").hexdigest() for row in (REFUSED, OTHER)}


@pytest.fixture
def written(tmp_path):
    """Six good rows, one of them twice; one refused, one not let in, one conflict, a marker."""
    path = tmp_path / "sent.jsonl"
    with Journal(path) as kept:
        for row in GOOD:
            kept.good(row)
        for offset, row in enumerate(GOOD[:4]):
            kept.sent(row.key, Way.KAFKA, Outcome.OK, good=[row.key], at=(0, offset))
        through_door = [GOOD[4].key, GOOD[5].key]
        kept.sent("d1", Way.DOOR, Outcome.UNKNOWN, good=through_door, code="ReadError")
        kept.sent("d1", Way.DOOR, Outcome.OK, good=through_door)
        kept.sent("k2", Way.KAFKA, Outcome.OK, good=[GOOD[0].key], at=(0, 4))
        kept.bad(AT_DOOR)
        turned_away = [AT_DOOR.key]
        beside = [GOOD[5].key]
        kept.sent("d2", Way.DOOR, Outcome.REFUSED, good=beside, bad=turned_away, code="400")
        kept.sent("d3", Way.DOOR, Outcome.REFUSED, bad=turned_away, code="400")
        for offset, bad in enumerate((REFUSED, OTHER), start=2):
            kept.bad(bad)
            kept.sent(
                bad.kind, Way.KAFKA, Outcome.OK, bad=[bad.key], at=(1, offset), value=bad.value
            )
        kept.marked((1, 4))
    return path.read_text(encoding="utf-8").splitlines()


def landed(row, partition, offset):
    return Landed((partition, offset), 0, journal.stored(row.values))


def parked(row, offset):
    return Parked((1, offset), 0, row.key, row.reason, SHA256[row.key])


@pytest.fixture
def there():
    """What must be there after that."""
    lake = [landed(row, 0, offset) for offset, row in enumerate(GOOD[:4])]
    lake += [landed(row, 1, offset) for offset, row in enumerate(GOOD[4:])]
    return State(
        lake=lake,
        quarantine=[parked(REFUSED, 2), parked(OTHER, 3)],
        duplicates=[((0, 4), 0)],
        markers=[((1, 4), 0)],
        ends={0: 5, 1: 5, 2: 0},
    )


def faults(written, there):
    return {finding.fault for finding in compare(journal.read(written), there)}


def test_what_is_as_it_must_be_has_no_findings(written, there):
    assert compare(journal.read(written), there) == []


def test_a_lost_row_is_found(written, there):
    planted = replace(there, lake=there.lake[1:])
    assert faults(written, planted) == {Fault.LOST, Fault.WRONG_PLACE, Fault.NOT_ACCOUNTED}
    only_the_row = [((0, 0), 0), *there.duplicates]
    assert faults(written, replace(planted, duplicates=only_the_row)) == {Fault.LOST}


def test_a_version_that_is_not_what_was_announced_is_found(written, there):
    right = Pinned(3, (2, "0f"), (2, "0f"))
    assert faults(written, replace(there, pins=[right])) == set()
    for wrong in ((1, "0f"), (2, "0e")):
        planted = replace(there, pins=[right, replace(right, read=wrong)])
        assert faults(written, planted) == {Fault.WRONG_CONTENT}


def test_a_doubled_row_is_found(written, there):
    again = [*there.lake, landed(GOOD[2], 2, 0)]
    planted = replace(there, lake=again, ends={**there.ends, 2: 1})
    assert faults(written, planted) == {Fault.DOUBLED}
    same_place = replace(there, lake=[*there.lake, there.lake[2]])
    assert faults(written, same_place) == {Fault.DOUBLED, Fault.ACCOUNTED_TWICE}


@pytest.mark.parametrize(
    ("name", "value"),
    [("amount", 3.5), ("at", 1), ("kind", None), ("count", True), ("colour", "red")],
)
def test_a_changed_value_is_found(name, value, written, there):
    first, *others = there.lake
    content = first.values | {name: value}
    if value is None:
        del content[name]
    planted = replace(there, lake=[replace(first, values=content), *others])
    assert faults(written, planted) == {Fault.CHANGED}


def test_a_row_that_was_not_sent_is_found(written, there):
    stranger = landed(rows.good(SEED, STREAM, 99), 2, 0)
    planted = replace(there, lake=[*there.lake, stranger], ends={**there.ends, 2: 1})
    assert faults(written, planted) == {Fault.NOT_SENT}


def test_a_bad_row_in_the_lake_is_found(written, there):
    accepted = Landed((1, 2), 0, {"id": REFUSED.key})
    planted = replace(there, lake=[*there.lake, accepted], quarantine=there.quarantine[1:])
    assert faults(written, planted) == {Fault.BAD_ROW_ACCEPTED, Fault.REJECT_LOST}


def test_a_reject_with_the_wrong_reason_is_found(written, there):
    first, *others = there.quarantine
    planted = replace(there, quarantine=[replace(first, reason="type"), *others])
    assert faults(written, planted) == {Fault.WRONG_REASON}


def test_a_reject_with_other_bytes_is_found(written, there):
    first, *others = there.quarantine
    planted = replace(there, quarantine=[replace(first, sha256="0" * 64), *others])
    assert faults(written, planted) == {Fault.REJECT_CHANGED}


def test_a_lost_reject_is_found(written, there):
    planted = replace(there, quarantine=there.quarantine[1:])
    assert faults(written, planted) == {Fault.REJECT_LOST, Fault.NOT_ACCOUNTED}


def test_a_doubled_reject_is_found(written, there):
    again = replace(there.quarantine[0], at=(2, 0))
    planted = replace(there, quarantine=[*there.quarantine, again], ends={**there.ends, 2: 1})
    assert faults(written, planted) == {Fault.REJECT_DOUBLED}


def test_a_good_row_in_quarantine_is_found(written, there):
    wrong = Parked((0, 1), 0, GOOD[1].key, "range", "")
    planted = replace(
        there, lake=[*there.lake[:1], *there.lake[2:]], quarantine=[*there.quarantine, wrong]
    )
    assert faults(written, planted) == {
        Fault.LOST,
        Fault.GOOD_ROW_REFUSED,
        Fault.WRONG_PLACE,
    }


def test_a_good_row_that_the_door_refused_is_found(written, there):
    entry = json.loads(written[-1])
    assert entry["op"] == "marked"
    refused = {"op": "sent", "send": "d9", "way": "door", "outcome": "refused", "code": "401"}
    line = json.dumps({**refused, "good": [GOOD[0].key], "bad": [], "at": None})
    assert faults([*written, line], there) == {Fault.GOOD_ROW_REFUSED}


def test_a_send_whose_end_is_unknown_is_found(written, there):
    unknown = {"op": "sent", "send": "d9", "way": "door", "outcome": "unknown", "code": ""}
    line = json.dumps({**unknown, "good": [GOOD[0].key], "bad": [], "at": None})
    assert faults([*written, line], there) == {Fault.UNDECIDED}


def test_a_row_that_was_announced_and_never_taken_is_found(written, there):
    line = json.dumps({"op": "good", "key": "r99", "values": GOOD[0].values | {"id": "r99"}})
    assert faults([*written, line], there) == {Fault.UNDECIDED, Fault.LOST}


def test_offsets_without_a_place_and_beyond_the_end_are_found(written, there):
    assert faults(written, replace(there, ends={**there.ends, 2: 1})) == {Fault.NOT_ACCOUNTED}
    assert faults(written, replace(there, ends={**there.ends, 1: 4})) == {Fault.BEYOND_THE_END}


def test_a_place_in_two_accounts_is_found(written, there):
    planted = replace(there, markers=[*there.markers, ((0, 4), 0)])
    assert faults(written, planted) == {Fault.ACCOUNTED_TWICE}


def test_a_marker_that_counts_as_something_else_is_found(written, there):
    planted = replace(there, markers=[], duplicates=[*there.duplicates, ((1, 4), 0)])
    assert faults(written, planted) == {Fault.WRONG_PLACE}


def test_many_rows_may_share_a_record(written, there):
    last = replace(there.lake[5], at=(1, 0), row=1)
    planted = replace(
        there, lake=[*there.lake[:5], last], duplicates=[*there.duplicates, ((1, 1), 3)]
    )
    assert faults(written, planted) == set()


@pytest.mark.parametrize("kind", rows.MAKERS)
def test_bad_rows_are_the_same_again_and_each_has_its_own_key(kind):
    number = list(rows.MAKERS).index(kind)
    made = rows.bad(SEED, STREAM, number)
    assert (made.kind, made.key) == (kind, f"bad-{number}")
    assert made == rows.bad(SEED, STREAM, number)
    assert made.line is None or b"\n" not in made.line


def test_a_plan_has_what_it_promises_and_is_the_same_again():
    plan = long_plan(SEED)
    kinds = [fault.kind for fault in plan]
    assert plan == long_plan(SEED)
    assert plan != long_plan(SEED + 1)
    assert sum(fault.kills for fault in plan) == 50
    assert kinds.count(Kind.ZOMBIE) == 6
    assert {*Kind} == {*kinds}
    for victim in VICTIMS:
        assert sum(fault.kills for fault in plan if fault.victim == victim) >= 12
    short = short_plan(SEED)
    assert sum(fault.kills for fault in short) == 5
    assert sum(fault.kind is Kind.ZOMBIE for fault in short) == 1


def test_sender_and_checker_use_no_code_of_the_product():
    own = Path(__file__).parent
    for name in ("rows", "journal", "parcels", "sender", "reading", "checker", "plans"):
        tree = ast.parse((own / f"{name}.py").read_text(encoding="utf-8"))
        modules = [
            module
            for node in ast.walk(tree)
            for module in (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else []
            )
        ]
        assert modules
        assert not [module for module in modules if module.startswith("gyral")]
