"""`make scale`: figures and pictures of docs/scale.md, from what the benchmarks found."""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gyral.testkit.openapi import ROOT
from tests.bench import plots
from tests.bench.figures import BLOCKS
from tests.bench.report import OUT, DataReport, LongReport

DOCS = ROOT / "docs"
PAGE = "scale.md"
_BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
_FULL_ROWS = 20_000_000
"""A smaller run tries the benchmark, and tells nothing that belongs on the page."""


@dataclass(frozen=True, slots=True)
class Found:
    """The reports there are."""

    data: DataReport | None
    long: LongReport | None


def read(folder: Path) -> Found:
    """Return the reports kept in a folder.

    Raises:
        ValidationError: one is no report of this version of the benchmark.
    """
    data, long = folder / "bench-data.json", folder / "bench-data-long.json"
    return Found(
        DataReport.model_validate_json(data.read_text()) if data.exists() else None,
        LongReport.model_validate_json(long.read_text()) if long.exists() else None,
    )


def rendered(page: str, found: Found) -> str:
    """Return the page with each block of figures written anew.

    Raises:
        KeyError: a block has a name that no figures have.
    """
    return blocks_written(page, lambda name: BLOCKS[name](found.data, found.long))


def blocks_written(page: str, figures: Callable[[str], str]) -> str:
    """Return a page with each block of figures written anew, by the block's name."""
    return _BLOCK.sub(lambda match: f"{match[1]}{figures(match[2])}\n{match[3]}", page)


def pictures(found: Found) -> Mapping[str, str]:
    """Return the pictures that the page shows, by their names in docs/images."""
    if found.long is None:
        return {}
    return {"scale.svg": plots.rates(found.long), "memory.svg": plots.memory(found.long)}


def keep(out: Path, docs: Path) -> None:
    """Take over the newest reports into docs/results, and write the page and its pictures.

    Raises:
        ValueError: a report is none, or is of a smaller run.
    """
    fresh = read(out)
    if fresh.long is not None and fresh.long.rows < _FULL_ROWS:
        raise ValueError(
            f"{out}/bench-data-long.json: expected a run of {_FULL_ROWS:,} rows; found"
            f" {fresh.long.rows:,}: run `make bench-data-long`, or remove the file"
        )
    results = docs / "results"
    for report in (fresh.data, fresh.long):
        if report is not None:
            results.mkdir(exist_ok=True)
            text = report.model_dump_json(indent=1) + "\n"
            (results / f"{report.benchmark}.json").write_text(text, encoding="utf-8")
    found = read(results)
    for name, drawn in pictures(found).items():
        (docs / "images" / name).write_text(drawn, encoding="utf-8")
    page = docs / PAGE
    page.write_text(rendered(page.read_text(encoding="utf-8"), found), encoding="utf-8")


def main() -> int:
    """Keep what the benchmarks last found on this machine."""
    try:
        keep(OUT, DOCS)
    except (ValueError, ValidationError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
