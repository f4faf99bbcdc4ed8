"""The audit chain shows every kind of tampering."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.registry.domain.audit import GENESIS, Entry, entry_hash, first_break

AT = datetime(2026, 1, 1, tzinfo=UTC)


def chain(reasons):
    entries, previous = [], GENESIS
    for seq, reason in enumerate(reasons, start=1):
        fields = {
            "seq": seq,
            "at": AT,
            "actor": "a",
            "action": "b",
            "subject": "c",
            "reason": reason,
        }
        change = {"n": seq}
        hashed = entry_hash(previous=previous, change=change, **fields)
        entries.append(Entry(**fields, change=change, previous=previous, hash=hashed))
        previous = hashed
    return entries


@given(st.lists(st.text(max_size=20), max_size=8))
def test_an_untouched_chain_verifies(reasons):
    assert first_break(chain(reasons)) is None


@pytest.mark.parametrize(
    "tamper",
    [
        lambda entries: [*entries[:1], replace(entries[1], reason="other"), *entries[2:]],
        lambda entries: [*entries[:1], *entries[2:]],
        lambda entries: [entries[1], entries[0], *entries[2:]],
        lambda entries: entries[1:],
        lambda entries: [replace(entries[0], change={"n": 9}), *entries[1:]],
        lambda entries: [*entries[:2], entries[1], *entries[2:]],
    ],
    ids=[
        "flipped",
        "deleted",
        "reordered",
        "truncated at the head",
        "other change",
        "inserted",
    ],
)
def test_tampering_is_found(tamper):
    assert first_break(tamper(chain(["x", "y", "z"]))) is not None


def test_a_page_continues_where_the_last_one_ended():
    entries = chain(["x", "y", "z"])
    assert first_break(entries[1:], previous=entries[0].hash, seq=1) is None
