"""Rows of files: typed as declared, cut into parcels, in memory that does not grow."""

import gzip
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.client.errors import ClientError
from gyral.client.rows.bodies import AS_ARROW, AS_NDJSON, TABLES, ndjson
from gyral.client.rows.columns import MisfitError, cells, typed
from gyral.client.rows.files import File, lines_of
from gyral.client.sending import parcels
from gyral.client.sending.files import Sealed
from gyral.client.sending.parcels import of_lines, of_tables
from gyral.contracts.specs.stream import FieldType

MIDNIGHT = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "given_", "wanted"),
    [
        (FieldType.STRING, ["007", None, "NA", ""], ["007", None, "NA", ""]),
        (FieldType.STRING, [7, None], ["7", None]),
        (FieldType.INTEGER, [" 7 ", "3.0", "", "NA", "-0"], [7, 3, None, None, 0]),
        (FieldType.INTEGER, [2.0, None], [2, None]),
        (FieldType.INTEGER, ["9007199254740993"], [9007199254740993]),
        (FieldType.NUMBER, ["1.5", "1e3", "nan", None], [1.5, 1000.0, None, None]),
        (FieldType.NUMBER, [Decimal("1.25")], [1.25]),
        (FieldType.NUMBER, [float("nan"), 1.0], [None, 1.0]),
        (FieldType.BOOLEAN, ["true", "False", "0", ""], [True, False, False, None]),
        (FieldType.TIMESTAMP, ["2025-01-01T01:00:00+01:00", None], [MIDNIGHT, None]),
        (FieldType.TIMESTAMP, ["2025-01-01 00:00:00", "2025-01-01"], [MIDNIGHT, MIDNIGHT]),
        (FieldType.TIMESTAMP, ["2025-01-01T00:00:00", "2025-01-01T00:00:00Z"], [MIDNIGHT] * 2),
        (FieldType.TIMESTAMP, [date(2025, 1, 1)], [MIDNIGHT]),
        (FieldType.TIMESTAMP, [datetime(2025, 1, 1)], [MIDNIGHT]),  # noqa: DTZ001 - the case
    ],
)
def test_a_column_becomes_what_its_field_is(kind, given_, wanted):
    assert typed(pa.chunked_array([pa.array(given_)]), kind).to_pylist() == wanted


@pytest.mark.parametrize(
    ("kind", "given_", "at", "message"),
    [
        (FieldType.INTEGER, ["1", "2", "3.5"], 2, "expected a whole number; found '3.5', of"),
        (FieldType.INTEGER, ["1", "x", "y"], 1, "found 'x'"),
        (FieldType.INTEGER, [1.5], 0, "found '1.5', of type double"),
        (FieldType.NUMBER, ["1", "1e999"], 1, "expected a finite number; found '1e999'"),
        (FieldType.NUMBER, [1.0, float("inf")], 1, "found 'inf'"),
        (FieldType.BOOLEAN, ["yes"], 0, "expected true or false; found 'yes'"),
        (FieldType.TIMESTAMP, ["2025-01-01", "soon"], 1, "expected times such as"),
        (FieldType.TIMESTAMP, [1735689600], 0, "of type int64"),
        (FieldType.STRING, [[1]], 0, "expected text"),
    ],
)
def test_a_cell_that_cannot_be_is_named(kind, given_, at, message):
    with pytest.raises(MisfitError, match=message) as refused:
        typed(pa.chunked_array([pa.array(given_)]), kind)
    assert refused.value.at == at


def test_nulls_are_null_in_json_whatever_the_type():
    kinds = {
        str(kind): typed(pa.chunked_array([pa.array(["", None])]), kind) for kind in FieldType
    }
    kinds.pop("string")
    for line in ndjson({name: cells(column) for name, column in kinds.items()}).split(b"\n"):
        assert orjson.loads(line) == dict.fromkeys(kinds)


def test_both_forms_of_a_body_hold_the_same_rows():
    table = pa.table({"id": ["a", "b", "c"], "amount": [1.5, None, 2.0]}).slice(1)
    rows = [orjson.loads(line) for line in AS_NDJSON.encode(table).split(b"\n")]
    assert pa.ipc.open_stream(AS_ARROW.encode(table)).read_all().to_pylist() == rows
    assert rows == [{"id": "b", "amount": None}, {"id": "c", "amount": 2.0}]


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 7), st.data())
def test_parcels_are_the_same_wherever_a_run_goes_on(sizes, rows, data):
    table = pa.table({"text": pa.array(["x" * size for size in sizes], pa.string())})

    def cut(skip, step):
        parts = [table.slice(at, step) for at in range(skip, len(sizes), step)]
        return [
            (each.first, each.rows, each.body)
            for each in of_tables(parts, TABLES, rows=rows, first=skip, place=str)
        ]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parcels, "MAX_BODY_BYTES", 100)
        whole = cut(0, 5)
        assert sum(count for _, count, _ in whole) == len(sizes)
        assert all(len(body) <= 100 or count == 1 for _, count, body in whole)
        if whole:
            at = data.draw(st.integers(0, len(whole) - 1))
            assert cut(whole[at][0], data.draw(st.integers(1, 9))) == whole[at:]


@given(st.lists(st.sampled_from([b"{}", b"", b" ", b'{"a":1}']), max_size=30), st.data())
def test_lines_are_cut_the_same_and_know_where_they_stood(texts, data):
    numbered = [(n, text) for n, text in enumerate(texts, 1) if text.strip()]
    whole = list(of_lines(numbered, rows=4))
    assert b"\n".join(each.body for each in whole) == b"\n".join(t for _, t in numbered)
    places = [each.place(at) for each in whole for at in range(each.rows)]
    assert places == [f"line {number}" for number, _ in numbered]
    if whole:
        at = data.draw(st.integers(0, len(whole) - 1))
        rest = list(of_lines(numbered, rows=4, skip=whole[at].first))
        assert [(each.first, each.body) for each in rest] == [
            (each.first, each.body) for each in whole[at:]
        ]


def test_a_line_without_an_end_is_refused(tmp_path):
    file = tmp_path / "long.ndjson.gz"
    file.write_bytes(gzip.compress(b"{" * (20 << 20)))
    with pytest.raises(ClientError, match="line 1: expected at most 8388608 bytes"):
        list(File(file).lines())


def test_a_file_cut_short_is_refused(tmp_path):
    file = tmp_path / "short.csv.gz"
    file.write_bytes(gzip.compress(b"id,at\n" + b"a,b\n" * 100_000)[:-20])
    with pytest.raises(ClientError, match=r"short\.csv\.gz: expected a CSV file; found"):
        list(File(file).tables(File(file).columns()))


def test_a_file_that_changes_on_the_way_is_noticed(tmp_path):
    file = tmp_path / "growing.csv"
    file.write_bytes(b"id\n1\n")
    watched = Sealed.of(file).watched(iter([parcel(), parcel()]))
    next(watched)
    with file.open("ab") as opened:
        opened.write(b"2\n")
    with pytest.raises(ClientError, match="expected the same file to the end; found that it"):
        next(watched)


def parcel():
    [made] = of_lines([(1, b"{}")], rows=1)
    return made


def test_a_row_is_placed_by_its_line_even_behind_line_breaks(tmp_path):
    file = tmp_path / "broken.csv"
    file.write_bytes(b'\xef\xbb\xbfid,note\n\na,"1\n2\n3"\n\nb,x\n')
    [table] = File(file).tables(("id", "note"))
    assert table.to_pylist() == [{"id": "a", "note": "1\n2\n3"}, {"id": "b", "note": "x"}]
    assert [File(file).place(row) for row in (0, 1)] == ["line 5", "line 7"]


MEASURE = """
import resource, sys
from pathlib import Path
from gyral.client.rows.bodies import TABLES
from gyral.client.rows.files import File, Format
from gyral.client.sending.parcels import of_lines, of_tables

def peak(name):
    file = File(Path(name))
    if file.format is Format.NDJSON:
        made = of_lines(file.lines(), rows=1000)
    else:
        made = of_tables(file.tables(file.columns()), TABLES, rows=1000, first=0, place=str)
    rows = sum(each.rows for each in made)
    return rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

small, large = map(peak, sys.argv[1:])
assert large[0] == 10 * small[0], (small, large)
print((large[1] - small[1]) * 1024)
"""


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "ndjson", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, suffix):
    rows = [f"{number:08d},{'x' * 400}" for number in range(20_000)]
    for name, times in (("small", 1), ("large", 10)):
        file = tmp_path / f"{name}.{suffix}"
        if suffix == "parquet":
            table = pa.table({"id": rows * times})
            pa.parquet.write_table(table, file, row_group_size=1 << 20, use_dictionary=False)
            continue
        head, line = ("id,text\n", "{}\n") if "csv" in suffix else ("", '{{"id":"{}"}}\n')
        text = (head + "".join(line.format(row) for row in rows) * times).encode()
        file.write_bytes(gzip.compress(text, 1) if suffix.endswith("gz") else text)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            MEASURE,
            tmp_path / f"small.{suffix}",
            tmp_path / f"large.{suffix}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40 << 20


def test_lines_of_a_stream_are_numbered_as_an_editor_does(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"\n{}\n\r\n  {}")
    with file.open("rb") as stream:
        assert list(lines_of(stream, "x")) == [(2, b"{}"), (4, b"{}")]
