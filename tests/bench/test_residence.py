"""A process's memory is told apart from what its window of identities takes."""

import pytest

from tests.bench.residence import Sample, memory_of

MB = 1_000_000


def samples(rows, resident, identities):
    return [
        Sample(at, known * MB, {"validation-0": held * MB})
        for at, held, known in zip(rows, resident, identities, strict=True)
    ]


def test_a_slope_is_of_what_comes_after_the_first_tenth():
    rows = [0, 1_000_000, 5_000_000, 10_000_000]
    found = memory_of(
        "validation-0", samples(rows, [100, 200, 220, 245], [0, 0, 0, 0]), remember_h=0.0
    )
    assert (found.rows, found.warm_mb, found.end_mb, found.peak_mb) == (10**7, 200, 245, 245)
    assert found.mb_per_million_rows == pytest.approx(5.0)
    assert found.late_mb_per_million_rows == pytest.approx(5.0)


def test_what_is_late_is_of_the_second_half():
    rows = [0, 1_000_000, 2_000_000, 3_000_000, 4_000_000]
    grown = samples(rows, [100, 200, 300, 300, 300], [0, 40, 90, 80, 70])
    found = memory_of("validation-0", grown, remember_h=0.0)
    assert found.late_mb_per_million_rows == pytest.approx(0.0)
    assert found.late_rest_mb_per_million_rows == pytest.approx(10.0)
    assert found.mb_per_million_rows > 0


def test_identities_are_taken_off_where_the_process_holds_them():
    rows = [0, 1_000_000, 2_000_000, 3_000_000]
    grown = samples(rows, [100, 144, 188, 232], [0, 44, 88, 132])
    found = memory_of("validation-0", grown, remember_h=24.0)
    assert found.mb_per_million_rows == pytest.approx(44.0)
    assert found.rest_mb_per_million_rows == pytest.approx(0.0)
    assert found.identities_end_mb == 132
    other = memory_of("validation-0", grown)
    assert other.rest_mb_per_million_rows == other.mb_per_million_rows
    assert other.identities_end_mb == 0


def test_rows_count_from_the_first_sample():
    found = memory_of("validation-0", samples([5, 5], [10, 12], [0, 0]), remember_h=0.0)
    assert (found.rows, found.mb_per_million_rows) == (0, 0)
