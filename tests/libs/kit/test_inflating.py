"""Packed bodies come out as they went in, however they were cut, and bombs stop early."""

import gzip
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.kit.bodies import read_body
from gyral.kit.inflating import PIECE_BYTES, inflater
from gyral.kit.refusals import Refusal

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

WIDE: dict[int, int] = {int(zstd.CompressionParameter.window_log): 27}
CODINGS = ("gzip", "zstd")


def packed(coding: str, content: bytes) -> bytes:
    return gzip.compress(content) if coding == "gzip" else zstd.compress(content)


async def body_of(body, coding, *, chunk=65_536, cap=1 << 20):
    async def chunks():
        for at in range(0, len(body), chunk):
            yield body[at : at + chunk]

    return await read_body(chunks(), encoding=coding, max_inflated_bytes=cap)


@given(
    st.sampled_from(CODINGS),
    st.binary(max_size=50) | st.integers(0, 3 * PIECE_BYTES).map(lambda n: b"a" * n),
    st.integers(1, 100),
)
async def test_what_was_packed_comes_out_however_it_was_cut(coding, content, chunk):
    assert await body_of(packed(coding, content), coding, chunk=chunk) == content


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_bomb_stops_at_the_cap_and_no_piece_is_long(coding):
    bomb = packed(coding, bytes(64 << 20))
    with pytest.raises(Refusal) as refused:
        await body_of(bomb, coding)
    assert refused.value.status == 413
    made = inflater(coding)
    assert made is not None
    assert {len(piece) <= PIECE_BYTES for piece in made.pieces(bomb)} == {True}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: whole[:-1],
        lambda whole: whole[:2],
        lambda whole: whole + b"x",
        lambda whole: whole + whole,
        lambda _: b"nothing packed",
        lambda _: b"",
    ],
    ids=["cut", "a start", "more behind", "two", "not packed", "empty"],
)
@pytest.mark.parametrize("chunk", [1, 1 << 16])
async def test_what_is_not_one_whole_is_refused(coding, spoil, chunk):
    with pytest.raises(Refusal) as refused:
        await body_of(spoil(packed(coding, b"content " * 10)), coding, chunk=chunk)
    assert (refused.value.status, refused.value.code) == (400, "bad_encoding")


async def test_a_zstd_frame_that_asks_for_much_memory_is_refused():
    packer = zstd.ZstdCompressor(options=WIDE)
    greedy = packer.compress(b"a" * 200) + packer.flush()
    with pytest.raises(Refusal) as refused:
        await body_of(greedy, "zstd")
    assert refused.value.status == 400
