"""Objects with one key twice: parsers keep one of the values, and readers disagree which."""

import json
from collections.abc import Sequence

import orjson

from gyral.kit.refusals import Refusal, bad_json, clip

_BEFORE_VALUES = (b'":', b" :", b"\t:", b"\n:", b"\r:")
"""How a key may end. A text may contain the same, so their number is only an upper bound."""


def reject_duplicate_keys(body: bytes) -> None:
    """Refuse JSON in which an object has a key twice.

    Raises:
        Refusal: 400 `duplicate_key` naming the key, or `bad_json` when it is no JSON at all.
    """
    try:
        value = orjson.loads(body)
    except ValueError as error:
        raise bad_json(error) from error
    reject_repeats(body, value)


def reject_repeats(body: bytes, value: object) -> None:
    """Refuse a body in which an object has a key twice, given what orjson read of it.

    Raises:
        Refusal: 400 `duplicate_key` naming the key.
    """
    if body.count(b":") and may_repeat_keys(body, _least_keys(value)):
        _compare_each_key(body)


def may_repeat_keys(body: bytes, distinct: int) -> bool:
    """Return False when `distinct` keys, those that a parser kept, are all that JSON can hold.

    True says nothing yet: a text with a colon is enough. `reject_duplicate_keys` then knows.
    """
    return body.count(b":") != distinct and sum(map(body.count, _BEFORE_VALUES)) != distinct


def _least_keys(value: object) -> int:
    """Return how many keys there are, counted as orjson writes them: no more than there are."""
    try:
        written = orjson.dumps(value)
    except TypeError:  # nested more deeply than it writes
        return -1
    # Inside a text a quote has a backslash before it; so has a key that ends in a backslash.
    return written.count(b'":') - written.count(b'\\":')


def _compare_each_key(body: bytes) -> None:
    try:
        json.loads(body.decode(), object_pairs_hook=_expect_once)
    except RecursionError as error:
        raise Refusal(400, "bad_json", "expected JSON; found it nested too deeply") from error


def _expect_once(pairs: Sequence[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            shown = clip(key)
            times = sum(other == key for other, _ in pairs)
            raise Refusal(
                400,
                "duplicate_key",
                f"{shown}: expected a key once in its object; found it {times} times",
                field=shown,
            )
        seen.add(key)
