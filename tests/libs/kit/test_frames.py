from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.kit.frames import (
    MAX_PAYLOAD_BYTES,
    Batch,
    Frame,
    FrameError,
    FrameReader,
    Kind,
    Rows,
    batch_of,
    batch_payload,
    packed,
)

frames = st.builds(
    Frame, st.integers(0, 2**32 - 1), st.sampled_from(Kind), st.binary(max_size=200)
)


@given(st.lists(frames, max_size=6), st.data())
def test_frames_arrive_whole_and_in_order_however_the_socket_cut_them(sent, data):
    wire = b"".join(packed(each.batch_id, each.kind, each.payload) for each in sent)
    reader = FrameReader()
    read: list[Frame] = []
    while wire:
        size = data.draw(st.integers(1, len(wire)))
        read += reader.feed(wire[:size])
        wire = wire[size:]
    assert read == sent


@given(
    st.lists(st.floats(allow_nan=False), max_size=5),
    st.lists(st.text(max_size=5), max_size=5),
)
def test_a_batch_says_what_it_said(numbers, texts):
    count = min(len(numbers), len(texts))
    cells = array("d", numbers[:count]).tobytes()
    rows = Rows(count, [cells, [*texts[:count]]])
    batch = Batch("m@1", "0" * 64, ("x", "c"), [rows, rows])
    assert batch_of(Frame(1, Kind.BATCH, batch_payload(batch))) == batch


@given(st.binary(min_size=9, max_size=100))
def test_bytes_that_are_no_frames_are_refused_or_waited_for(junk):
    try:
        assert all(isinstance(frame.kind, Kind) for frame in FrameReader().feed(junk))
    except FrameError as error:
        assert "expected a frame" in str(error)  # noqa: PT017 - most junk is short of a frame


def test_a_length_beyond_the_limit_is_refused_before_it_is_read():
    header = (MAX_PAYLOAD_BYTES + 1).to_bytes(4, "little") + b"\0\0\0\0\1"
    with pytest.raises(FrameError, match="expected a frame"):
        list(FrameReader().feed(header))
    with pytest.raises(FrameError, match="payload bytes"):
        packed(1, Kind.BATCH, bytes(MAX_PAYLOAD_BYTES + 1))


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ([b"\0" * 16], "expected 2 columns, found 1"),
        ([b"\0" * 16, ["a"]], "c: expected 2 cells, found 1"),
        ([b"\0" * 15, ["a", "b"]], "x: expected 2 cells"),
    ],
)
def test_a_batch_whose_columns_do_not_fit_its_rows_is_refused(columns, named):
    batch = Batch("m@1", "0" * 64, ("x", "c"), [Rows(2, columns)])
    with pytest.raises(FrameError, match=named):
        batch_of(Frame(1, Kind.BATCH, batch_payload(batch)))


def test_a_frame_of_another_kind_holds_no_batch():
    with pytest.raises(FrameError, match="expected a batch"):
        batch_of(Frame(1, Kind.FAILED, b"why"))
    with pytest.raises(FrameError, match="expected a batch"):
        batch_of(Frame(1, Kind.BATCH, b"\xc1"))
