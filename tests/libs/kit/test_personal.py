"""Pseudonyms, seals and parked bytes: the same where they must be, under the key alone."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gyral.kit.personal import PSEUDONYM, SEAL, PersonalKeys, UnreadableError

ONE = PersonalKeys(SecretStr("one secret of more than 32 characters"))
SAME = PersonalKeys(SecretStr("one secret of more than 32 characters"))
OTHER = PersonalKeys(SecretStr("another secret of 32 characters or so"))
HEADERS = [
    ("ce_type", b"data.batch.submitted.v1"),
    ("ce_stream", b"visits"),
    ("ce_schemaversion", b"1"),
    ("ce_rows", b"2"),
    ("content-type", b"application/x-ndjson"),
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXTS, TEXTS)
def test_a_pseudonym_follows_from_text_and_secret_alone(text, another):
    made = ONE.pseudonym(text)
    assert re.fullmatch(PSEUDONYM, made)
    assert made == SAME.pseudonym(text)
    assert made != OTHER.pseudonym(text)
    assert (made == ONE.pseudonym(another)) == (text == another)


def test_the_published_value_never_changes():
    assert ONE.pseudonym("ada@example.org") == "qY8eXj3Vv98s4dgGVBd18Hp2ZPCAX-Q0"


@given(st.binary(), st.binary(), st.sampled_from(["visits", "orders"]))
def test_parked_bytes_are_read_under_their_secret_stream_and_place_alone(plain, noise, stream):
    held = ONE.encrypt(stream, "t/0/7", plain)
    assert SAME.decrypt(stream, "t/0/7", held) == plain
    assert plain not in held or len(plain) < 4
    assert held != ONE.encrypt(stream, "t/0/7", plain)
    for keys, name, place, text in (
        (OTHER, stream, "t/0/7", held),
        (ONE, "others", "t/0/7", held),
        (ONE, stream, "t/0/8", held),
        (ONE, stream, "t/0/7", held[:-1] + bytes([held[-1] ^ 1])),
        (ONE, stream, "t/0/7", noise),
    ):
        with pytest.raises(UnreadableError):
            keys.decrypt(name, place, text)


def sealed(headers=HEADERS, value=b"{}\n{}", keys=ONE):
    return [*headers, (SEAL, keys.seal(headers, value))]


def test_what_the_door_sealed_is_known_whatever_else_travels_with_it():
    assert SAME.is_sealed([("traceparent", b"00-1"), *sealed()], b"{}\n{}")
    assert SAME.is_sealed(list(reversed(sealed())), b"{}\n{}")


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        (HEADERS, b"{}\n{}"),
        (sealed(keys=OTHER), b"{}\n{}"),
        (sealed(), b"{}\n{} "),
        ([*sealed(), (SEAL, b"x")], b"{}\n{}"),
        ([*sealed(), ("ce_stream", b"orders")], b"{}\n{}"),
        ([*sealed()[1:]], b"{}\n{}"),
        ([("ce_rows", b"3") if n == "ce_rows" else (n, v) for n, v in sealed()], b"{}\n{}"),
        ([*HEADERS, (SEAL, None)], b"{}\n{}"),
    ],
)
def test_a_record_the_door_did_not_write_is_not_sealed(headers, value):
    assert not ONE.is_sealed(headers, value)


def test_a_secret_is_told_from_another_and_not_told():
    assert ONE.fingerprint == SAME.fingerprint != OTHER.fingerprint
    assert "one secret" not in repr(vars(ONE)["_subjects"])
