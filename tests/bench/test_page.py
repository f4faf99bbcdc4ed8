"""docs/scale.md shows what the benchmarks found, all of it and nothing else."""

import re
import shutil

import pytest

from tests.bench import page
from tests.bench.figures import BLOCKS, expected
from tests.bench.long import Outcome, report
from tests.bench.page import DOCS, PAGE, Found
from tests.bench.report import DataReport, Machine, Memory, Point, Seconds, Series, publish
from tests.bench.visible import Visible

MACHINE = Machine(cores=2, processor="a <fast> one", memory_gb=24, python="3.11.7")
COSTS = {"validation": 10.0, "kafka": 2.0, "postgres": 1.0, "minio": 3.0}
FULL = 20_000_000


def a_series(partitions, processes, slabs, *, rate, remember_h=0.0, slab=FULL // 20):
    points = [
        Point(rows=(at + 1) * slab, rows_per_s=rate + at, core_us_per_row=COSTS)
        for at in range(slabs)
    ]
    return Series(
        partitions=partitions, processes=processes, remember_h=remember_h, points=points
    )


def a_memory(process, remember_h):
    return Memory(
        process=process,
        remember_h=remember_h,
        rows=FULL,
        warm_mb=300,
        end_mb=310,
        peak_mb=400,
        mb_per_million_rows=0.5,
        identities_end_mb=44,
        rest_mb_per_million_rows=0.1,
        late_mb_per_million_rows=-0.3,
        late_rest_mb_per_million_rows=0.2,
        samples=[(0, 100.0, 0.0), (FULL, 310.0, 44.0)],
    )


def a_long_report(rows=FULL):
    found = Outcome(
        series=[
            a_series(4, 1, 20, rate=70_000, slab=rows // 20),
            a_series(4, 1, 5, rate=50_001, remember_h=24.0, slab=rows // 20),
            a_series(1, 1, 5, rate=60_000, slab=rows // 20),
            a_series(2, 1, 5, rate=65_000, slab=rows // 20),
            a_series(4, 2, 2, rate=90_000, slab=rows // 20),
        ],
        memory=[a_memory("validation-0", 0.0), a_memory("validation-0", 24.0)],
        visible=Visible(p50=0.5, p99=1.25, rows_per_s=35_000),
    )
    return report(found, rows=rows, seconds=1200)


def a_data_report():
    return DataReport(
        date="2026-11-26",
        machine=MACHINE,
        validation_rows_per_s=81_234,
        validation_ratio=0.512,
        ingest_rows_per_s=120_000,
        ingest_ratio=0.45,
        arrow_over_ndjson=3.2,
        arrow_10k_over_ndjson=4.4,
        visible_rows_per_s=40_000,
        visible_s=Seconds(p50=0.7, p99=1.9),
    )


@pytest.fixture
def docs(tmp_path):
    """A copy of the page to write into."""
    (tmp_path / "docs" / "images").mkdir(parents=True)
    shutil.copy(DOCS / PAGE, tmp_path / "docs" / PAGE)
    return tmp_path / "docs"


def test_the_page_and_its_pictures_are_those_of_the_kept_reports():
    found = page.read(DOCS / "results")
    text = (DOCS / PAGE).read_text()
    assert page.rendered(text, found) == text, "run `make scale`"
    for name, drawn in page.pictures(found).items():
        assert (DOCS / "images" / name).read_text() == drawn, "run `make scale`"


def test_the_page_has_every_block_of_figures_once():
    named = re.findall(r"<!-- figures: (\w+) -->", (DOCS / PAGE).read_text())
    assert sorted(named) == sorted(BLOCKS)


def test_one_command_takes_over_both_reports(docs, tmp_path, capsys):
    data, told = a_data_report(), a_long_report()
    publish(data, tmp_path)
    publish(told, tmp_path)
    capsys.readouterr()
    page.keep(tmp_path, docs)
    written = (docs / PAGE).read_text()
    assert "Not measured yet" not in written
    for shown in ("81,234", "| 0.51 |", "70,019", "60,004", "| +0.5 | -0.3 |", "1.25 s"):
        assert shown in written, shown
    assert "50,001" not in written  # its window is another: it belongs to memory alone
    assert page.read(docs / "results") == Found(data, told)
    for name in ("scale.svg", "memory.svg"):
        assert (docs / "images" / name).read_text().startswith("<svg ")
        assert f"(images/{name})" in written
    page.keep(tmp_path / "nothing new", docs)
    assert (docs / PAGE).read_text() == written


def test_every_table_that_grew_is_a_line_of_the_one_picture():
    drawn = page.pictures(Found(None, a_long_report()))["scale.svg"]
    for said in ("1 partition", "2 partitions", "4 partitions", "4 partitions, 2 proc."):
        assert f">{said}</text>" in drawn
    assert drawn.count('<g class="line t') == 2 * 4
    assert ">20</text>" in drawn


def test_a_smaller_run_is_not_taken_over(docs, tmp_path):
    before = (docs / PAGE).read_text()
    publish(a_long_report(rows=40_000), tmp_path)
    with pytest.raises(ValueError, match="20,000,000 rows; found 40,000"):
        page.keep(tmp_path, docs)
    assert (docs / PAGE).read_text() == before
    assert not (docs / "results").exists()


def test_a_cluster_gives_the_lesser_of_what_processes_and_cores_give():
    assert expected(cores=16, processes=2, single=70_000, core_us=16) == 140_000
    assert expected(cores=2, processes=4, single=70_000, core_us=16) == 125_000


def test_costs_are_compared_over_the_largest_table():
    told = a_long_report()
    assert told.cost_growth == 1.0
    assert told.rows_per_s["4"] == {"1000000": 70_000, "5000000": 70_004, "20000000": 70_019}
    assert told.rows_per_s["1"] == {"1000000": 60_000, "5000000": 60_004}
