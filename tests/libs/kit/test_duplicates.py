"""Keys that an object has twice, however they are written."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from gyral.kit.bodies import parse_json, parse_model
from gyral.kit.duplicates import may_repeat_keys, reject_duplicate_keys
from gyral.kit.refusals import Refusal


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ('{"a":1,"a":1}', "a"),
        ('{"a" :1,"a":2}', "a"),
        ('{"a"\t:1,"a"\r\n:2}', "a"),
        ('[{"b":[{"a":1,"c":{"x":1,"x":2}}]}]', "x"),
        ('{"a":1,"\\u0061":2}', "a"),
        ('{"a":"\\u0022:","a":"\\u0022:"}', "a"),
        ('{"a":1,"a":{"b":1,"c":2}}', "a"),
        ('{"a":{"b":1,"c":2},"a":1}', "a"),
        ('{"a":1,"b":"\\u0022:","a":2}', "a"),
        ('{"a\\\\":1,"a\\\\":1}', "a\\"),
        ('{"":1,"":1}', ""),
        ('{"é":1,"\\u00e9":1}', "é"),
        (f'{{"d":{"[" * 500}{"]" * 500},"a":1,"a":2}}', "a"),
    ],
)
def test_a_key_that_comes_twice_is_refused_and_named(body, key):
    with pytest.raises(
        Refusal, match="expected a key once in its object; found it 2"
    ) as caught:
        reject_duplicate_keys(body.encode())
    assert (caught.value.status, caught.value.code) == (400, "duplicate_key")
    assert caught.value.field == key


texts = st.text(st.sampled_from('a": \\\t{},é'), max_size=6)
values = st.recursive(
    st.one_of(st.none(), st.integers(-9, 9), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner)),
    max_leaves=12,
)
separators = st.tuples(
    st.sampled_from([",", " ,\n"]), st.sampled_from([":", " :", "\t: ", ": "])
)


@given(values, separators, st.booleans())
def test_what_no_object_has_twice_passes_however_it_is_written(value, separators, ascii_only):
    body = json.dumps(value, separators=separators, ensure_ascii=ascii_only).encode()
    reject_duplicate_keys(body)
    assert parse_json(body) == value


@given(st.dictionaries(texts, values, min_size=1), separators, st.booleans(), st.data())
def test_no_way_of_writing_hides_a_key_that_comes_twice(value, separators, ascii_only, data):
    written = json.dumps(value, separators=separators, ensure_ascii=ascii_only)
    again = data.draw(st.sampled_from(sorted(value)))
    pair = json.dumps({again: data.draw(values)}, separators=separators)
    body = f"{{{pair[1:-1]},{written[1:-1]}}}".encode()
    with pytest.raises(Refusal, match="expected a key once"):
        reject_duplicate_keys(body)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[NaN]", b"[" * 100_000, b"9" * 5000])
def test_what_is_no_json_is_refused_as_such(body):
    with pytest.raises(Refusal) as caught:
        reject_duplicate_keys(body)
    assert (caught.value.status, caught.value.code) == (400, "bad_json")


def test_a_key_twice_is_found_or_refused_as_too_deep_where_one_parser_reads_on():
    deep = b'{"a":' * 1000 + b'{"b":1,"b":2}' + b"}" * 1000
    assert orjson.loads(deep)
    with pytest.raises(Refusal, match=r"once|nested too deeply"):
        reject_duplicate_keys(deep)


def test_an_ordinary_body_needs_no_second_look():
    body = b'{"at": "2013-01-01T00:00:00Z", "n": {"x" : 1}}'
    assert not may_repeat_keys(body, 3)
    assert may_repeat_keys(body, 2)


def test_the_kits_readers_look_for_them():
    class Thing(BaseModel):
        a: int

    with pytest.raises(Refusal, match="a: expected a key once"):
        parse_json(b'{"a":1,"a":2}')
    with pytest.raises(Refusal, match="a: expected a key once"):
        parse_model(b'{"a":1,"a":2}', Thing)
