"""Bodies that mean harm: each with what says so, and the answers it may get."""

import gzip
import io
import struct
import zlib

import numpy as np
import orjson
import pyarrow as pa
from backports import zstd

from tests.services.ingestion.tables import AT, arrow, parquet, table

TIME = "2013-01-01T05:15:00Z"
NDJSON = "application/x-ndjson"
JSON = "application/json"
EVENT = "application/cloudevents+json"
EVENTS = "application/cloudevents-batch+json"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"


def line(key="a", at=TIME, **values):
    return orjson.dumps({"id": key, "at": at, **values})


def row(inner):
    """Return a row with this as one value's JSON."""
    return b'{"id":"a","at":"%b","x":%b}' % (TIME.encode(), inner)


VALUES = {
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "-Infinity": b"-Infinity",
    "1e999": b"1e999",
    "deep": b"[" * 100_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "bad UTF-8": b'"\xff"',
    "overlong UTF-8": b'"\xc0\x80"',
    "UTF-8 surrogate": b'"\xed\xa0\x80"',
    "lone surrogate": b'"\\ud800"',
    "control character": b'"\x01"',
    "nothing": b"",
    "key twice": b'{"k":1,"k":2}',
    "key twice, escaped": b'{"k":1,"\\u006b" : 2}',
}
DEEP = {
    f"{depth} {name} deep": opened * depth + b"1" + closed * depth
    for depth in (300, 990)
    for name, opened, closed in (("lists", b"[", b"]"), ("objects", b'{"a":', b"}"))
}
"""Read by the parser and too deep for the writer, who takes the rows out of CloudEvents."""
DOCUMENTS = {
    "empty": b"",
    "blank": b" \n ",
    "no JSON": b"hello",
    "half-sent": line()[:-1],
    "UTF-16": line().decode().encode("utf-16"),
    "UTF-32": line().decode().encode("utf-32"),
    "UTF-8 with a mark": line().decode().encode("utf-8-sig"),
    "key twice": b'{"id":"a","id":"b","at":"%b"}' % TIME.encode(),
    "a text": b'"a"',
    "a number": b"1",
    "null": b"null",
    "no key": b'{"at":"%b"}' % TIME.encode(),
    "no time": b'{"id":"a"}',
    "NUL in the key": b'{"id":"a\\u0000","at":"%b"}' % TIME.encode(),
    "NUL": b"\0",
    "random": np.random.default_rng(7).bytes(1000),
    "over the cap": b" " * 1_000_001,
    "commas": b"[" + b"," * 900_000 + b"]",
    "many lists": b"[" + b"[]," * 300_000 + b"[]]",
    "many lines": b"\n" * 999_000,
    "many digits as a row": b"9" * 5000,
}


def json_bodies():
    """Yield (name, content type, body) of all forms that are JSON."""
    for name, inner in VALUES.items():
        yield name, NDJSON, line("b") + b"\n" + row(inner)
        yield name, JSON, row(inner)
        yield from events_with(name, inner)
    for name, body in DOCUMENTS.items():
        for form in (NDJSON, JSON, EVENT, EVENTS):
            yield name, form, body


def events_with(name, inner):
    """Yield (name, content type, body) of CloudEvents with this as one value's JSON."""
    head = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":'
    yield name, EVENT, head + row(inner) + b"}"
    yield name, EVENTS, b"[" + head + row(inner) + b"}]"


def packed_bodies():
    """Yield (name, coding, body)."""
    bomb = zlib.compressobj(9, wbits=31)
    yield "gzip bomb", "gzip", bomb.compress(bytes(200 << 20)) + bomb.flush()
    yield "zstd bomb", "zstd", zstd.compress(bytes(200 << 20))
    yield "gzip of a gzip", "gzip", gzip.compress(gzip.compress(line()))
    for coding, pack in (("gzip", gzip.compress), ("zstd", zstd.compress)):
        yield f"{coding} cut", coding, pack(line())[:-3]
        yield f"{coding} twice", coding, pack(line()) * 2
        yield f"{coding} of junk", coding, pack(b"junk")
        yield f"no {coding}", coding, line()
        yield f"nothing as {coding}", coding, b""
    yield "unknown coding", "br", line()
    yield "two codings", "gzip, zstd", gzip.compress(line())


def arrow_bodies():
    """Yield (name, body)."""
    good = arrow(table(s=pa.array(["x", "y"]), x=pa.array([1.0, 2.0])))
    yield "empty", b""
    yield "no Arrow", b"hello hello hello"
    yield "NDJSON", line()
    yield "random", np.random.default_rng(7).bytes(5000)
    yield "cut", good[: len(good) // 2]
    yield "without its end", good[:-8]
    yield "more behind its end", good + b"x"
    yield "two streams", good * 2
    yield "an Arrow file", _arrow_file()
    yield "no batch", arrow(table().slice(0, 0))
    yield "a length beyond all", b"\xff\xff\xff\xff" + struct.pack("<i", 2**31 - 1) + good[8:]
    yield "a negative length", b"\xff\xff\xff\xff" + struct.pack("<i", -5) + good[8:]
    for codec in ("lz4", "zstd"):
        big = table(s=pa.array(["p" * 600_000] * 2))
        yield f"{codec} buffers", arrow(big, options=pa.ipc.IpcWriteOptions(compression=codec))
    yield "dictionary", arrow(table(s=pa.array(["x", "y"]).dictionary_encode()))
    yield "list", arrow(table(s=pa.array([["x"], []])))
    yield "struct", arrow(table(s=pa.array([{"a": 1}, None])))
    yield "map", arrow(table(s=pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64()))))
    yield "extension", arrow(table(s=pa.ExtensionArray.from_storage(pa.uuid(), _sixteen())))
    yield "run-end encoded", arrow(table(s=_run_ends()))
    yield "view", arrow(table(s=pa.array(["x", "y"], pa.string_view())))
    yield "null type", arrow(table(s=pa.nulls(2)))
    yield "decimal", arrow(table(x=pa.array([1, 2]).cast(pa.decimal128(21, 2))))
    yield "deeply nested", arrow(table(s=_nested(60)))
    yield "many columns", arrow(table(**{f"c{n}": pa.array([1, 2]) for n in range(2000)}))
    yield "a column twice", _column_twice()
    yield "offsets out of range", (_lying(offsets=[0, 1, 2**30]))
    yield "offsets backwards", (_lying(offsets=[0, 2, 1]))
    yield "offsets negative", (_lying(offsets=[-(2**31), 1, 2]))
    yield "bad UTF-8", (_lying(offsets=[0, 1, 2], text=b"\xff\xfe"))
    yield "NaN", arrow(table(x=pa.array([1.0, float("nan")])))
    yield "Infinity", arrow(table(x=pa.array([1.0, float("inf")])))
    yield "a lying number of rows", _patched_rows(good, 2, 2**40)
    yield "a negative number of rows", _patched_rows(good, 2, -1)


def flipped_arrow_bodies(count=300):
    """Yield good Arrow streams with some bytes changed."""
    good = bytearray(arrow(table(s=pa.array(["x", "y"]), x=pa.array([1.0, 2.0]))))
    rng = np.random.default_rng(7)
    for _ in range(count):
        spoilt = good.copy()
        for at in rng.integers(0, len(good), rng.integers(1, 4)):
            spoilt[at] = rng.integers(0, 256)
        yield bytes(spoilt)


def parquet_bodies():
    """Yield (name, body)."""
    good = parquet(table(s=pa.array(["x", "y"])))
    yield "empty", b""
    yield "no Parquet", b"hello hello hello"
    yield "random", b"PAR1" + np.random.default_rng(7).bytes(5000) + b"PAR1"
    yield "cut", good[:-20]
    yield "without its start", good[20:]
    yield "a footer beyond all", good[:-8] + struct.pack("<I", 2**31) + b"PAR1"
    long = pa.array(["p" * 60_000] * 900)
    ids = pa.array([str(n) for n in range(900)])
    times = pa.array([AT] * 900, pa.timestamp("us", "UTC"))
    dictionary = pa.table({"id": ids, "at": times, "s": long})
    yield "dictionary bomb", parquet(dictionary, use_dictionary=True)
    yield "page bomb", parquet(dictionary, use_dictionary=False, compression="zstd")
    yield "gzip page bomb", parquet(dictionary, use_dictionary=False, compression="gzip")
    yield "list", parquet(table(s=pa.array([["x"], []])))
    yield "struct", parquet(table(s=pa.array([{"a": 1}, {"a": 2}])))
    yield "many rows", parquet(pa.table({"id": pa.array(["x"]).take(pa.array([0] * 100_000))}))
    yield "many columns", parquet(table(**{f"c{n}": pa.array([1, 2]) for n in range(600)}))
    yield "naive times", parquet(table(at=pa.array([1, 2]).cast(pa.timestamp("us"))))
    yield (
        "bad UTF-8",
        parquet(table(s=pa.array(["xxxx", "yyyy"]))).replace(b"xxxx", b"\xff" * 4),
    )


def flipped_parquet_bodies(count=200):
    """Yield good Parquet files with some bytes changed."""
    good = bytearray(parquet(table(s=pa.array(["x", "y"]), x=pa.array([1.0, 2.0]))))
    rng = np.random.default_rng(7)
    for _ in range(count):
        spoilt = good.copy()
        for at in rng.integers(0, len(good), rng.integers(1, 4)):
            spoilt[at] = rng.integers(0, 256)
        yield bytes(spoilt)


def _arrow_file():
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table().schema) as writer:
        writer.write(table())
    return sink.getvalue()


def _sixteen():
    return pa.array([b"x" * 16, b"y" * 16], pa.binary(16))


def _run_ends():
    ends, values = pa.array([1, 2], pa.int32()), pa.array(["x", "y"])
    return pa.RunEndEncodedArray.from_arrays(ends, values)


def _nested(depth):
    values = pa.array(["x", "y"])
    for _ in range(depth):
        values = pa.StructArray.from_arrays([values], ["a"])
    return values


def _column_twice():
    batch = table().to_batches()[0]
    again = pa.RecordBatch.from_arrays([*batch.columns, batch.columns[0]], ["id", "at", "id"])
    return arrow(again)


def _lying(*, offsets, text=b"xy"):
    """Return a stream whose last column lies about where its texts are, or what they are."""
    good = arrow(table(s=pa.array(["x", "y"])))
    at = good.rindex(struct.pack("<3i", 0, 1, 2))
    lying = good[:at] + struct.pack("<3i", *offsets) + good[at + 12 :]
    return lying.replace(b"xy", text)


def _patched_rows(body, found, wanted):
    """Return a stream whose batch says another number of rows wherever it says one."""
    return body.replace(struct.pack("<q", found), struct.pack("<q", wanted))
