"""A batch record says in its headers what its value is."""

import pytest

from gyral.contracts.batches import MAX_BATCH_ROWS, BatchForm, BatchSubmitted

HEADERS = {
    "ce_stream": "rides",
    "ce_schemaversion": "3",
    "ce_rows": "10000",
    "content-type": "application/x-ndjson",
}


def test_what_headers_say_is_read_and_written_alike():
    batch = BatchSubmitted.described_by({**HEADERS, "ce_id": "x", "traceparent": "y"})
    assert batch == BatchSubmitted(
        stream="rides", schemaversion=3, rows=MAX_BATCH_ROWS, form=BatchForm.NDJSON
    )
    assert batch.attributes == HEADERS


@pytest.mark.parametrize(
    "wrong",
    [
        {"ce_stream": "No Name"},
        {"ce_schemaversion": "0"},
        {"ce_schemaversion": "one"},
        {"ce_rows": "0"},
        {"ce_rows": "10001"},
        {"ce_rows": "9" * 5000},
        {"content-type": "application/json"},
    ],
    ids=str,
)
def test_headers_that_break_the_contract_are_no_batch(wrong):
    with pytest.raises(ValueError, match=r"validation error"):
        BatchSubmitted.described_by({**HEADERS, **wrong})


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_is_missing_makes_it_no_batch(name):
    kept = {other: value for other, value in HEADERS.items() if other != name}
    with pytest.raises(ValueError, match=r"validation error"):
        BatchSubmitted.described_by(kept)
