"""Expectations, blocks and rows for tests of what is expected of a stream."""

import numpy as np
import pyarrow as pa

from gyral.contracts.specs.expectations import Severity
from gyral.contracts.specs.stream import StreamBody
from gyral.validation.domain.expectations import expected_of
from gyral.validation.engine.counting import observed

HOUR = 3_600_000_000
FIELDS = {
    "id": {"type": "string"},
    "at": {"type": "timestamp"},
    "carrier": {"type": "string", "allowed": ["AA", "UA", "DL"], "nullable": True},
    "delay": {"type": "number", "minimum": 0, "maximum": 100, "nullable": True},
    "late": {"type": "boolean"},
    "seats": {"type": "integer"},
}
EVERY = (
    {"name": "present", "kind": "null_share", "field": "delay", "at_most": 0.5},
    {"name": "carriers", "kind": "distinct_count", "field": "carrier", "at_least": 2},
    {"name": "planes", "kind": "distinct_count", "field": "seats", "at_most": 3},
    {"name": "enough", "kind": "row_count", "at_least": 2},
    {"name": "fresh", "kind": "freshness", "at_most": "30m"},
    {"name": "delays", "kind": "distribution", "field": "delay", "at_most": 0.3},
    {"name": "mix", "kind": "distribution", "field": "carrier", "at_most": 0.3},
    {"name": "lateness", "kind": "distribution", "field": "late", "at_most": 0.3},
)


def a_body(*expectations, **changed):
    return StreamBody.model_validate(
        {
            "key": "id",
            "event_time": "at",
            "fields": {**FIELDS, **changed},
            "expectations": expectations,
        }
    )


def watched(kind, **given):
    """Return one expectation over hours that blocks."""
    declared = {"name": "one", "kind": kind, "severity": Severity.BLOCK, **given}
    [one] = expected_of(a_body(declared), 1).watched
    return one


def rows_at(times_us, partitions, offsets, **columns):
    """Return rows as the lake keeps them."""
    count = len(times_us)
    filled = {
        "carrier": ["AA"] * count,
        "delay": [1.0] * count,
        "late": [False] * count,
        "seats": [1] * count,
        **columns,
    }
    types = {"carrier": pa.string(), "delay": pa.float64()}
    table = {name: pa.array(cells, types.get(name)) for name, cells in filled.items()}
    table["_partition"] = pa.array(partitions, pa.int32())
    table["_offset"] = pa.array(offsets, pa.int64())
    return pa.table(table)


def a_batch(expected, times_us, partitions=None, offsets=None, markers=(), **columns):
    """Return a batch's rows as they are counted; by default of partition 0, in their order."""
    count = len(times_us)
    partitions = [0] * count if partitions is None else partitions
    offsets = range(count) if offsets is None else offsets
    table = rows_at(times_us, partitions, list(offsets), **columns)
    times = np.array(times_us, dtype=np.int64)
    return observed(expected.measures, table, times, markers)
