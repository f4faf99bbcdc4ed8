"""The long benchmark from end to end, small: its last line holds every figure."""

import asyncio
import sys

import pytest

from tests.bench.report import LongReport

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]
ROWS = 40_000


async def ran(*arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.long",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, said = await process.communicate()
    return process.returncode, printed.decode(), said.decode()


async def test_a_small_run_prints_tables_and_then_every_figure_in_one_line(tmp_path):
    code, printed, said = await ran("--rows", str(ROWS), "--out", str(tmp_path))
    assert code == 0, said
    *tables, line = printed.splitlines()
    assert any("rows/s" in row for row in tables)
    assert (tmp_path / "bench-data-long.json").read_text() == f"{line}\n"
    told = LongReport.model_validate_json(line)
    assert set(told.rows_per_s) == {"1", "2", "4"}
    assert set(told.rows_per_s["4"]) == {str(ROWS // 4), str(ROWS)}
    shapes = [(one.partitions, one.processes, len(one.points)) for one in told.series]
    assert shapes == [(4, 1, 4), (4, 1, 1), (1, 1, 1), (2, 1, 1), (2, 2, 1), (4, 2, 1)]
    points = [point for one in told.series for point in one.points]
    assert all(point.rows_per_s > 0 for point in points)
    assert all(
        set(point.core_us_per_row) == {"validation", "kafka", "postgres", "minio"}
        for point in points
    )
    assert [each.process for each in told.memory] == [
        "validation-0",
        "ingestion",
        "validation-0",
    ]
    assert all(each.end_mb > 20 for each in told.memory)
    # The second table's process forgets nothing: 44 bytes a row, and no other bytes.
    assert told.memory[-1].identities_end_mb == pytest.approx(44 * ROWS / 4 / 1e6)
    assert 0 < told.visible_s.p50 <= told.visible_s.p99


async def test_rows_that_are_no_whole_slabs_are_refused():
    code, _, said = await ran("--rows", "30001")
    assert code == 2
    assert "--rows: expected a multiple of 20" in said
