"""Request bodies, made from columns: rows as NDJSON, and the questions about them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from gyral.client.answers import Tensor
from gyral.client.rows.bodies import BATCH_ROWS, ndjson
from gyral.client.rows.columns import Cells
from gyral.modelling.columns import Ints

QUESTION_ROWS = 16
"""Rows of one prediction request: a canary gets whole requests, so few and large ones would
let its share swing by chance."""
_OWN_INPUTS = ("entity_key", "event_time")


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one stream, ready to be sent."""

    stream: str
    body: bytes
    keys: Sequence[str]

    @property
    def idempotency_key(self) -> str:
        """What makes sending it again harmless: its own content."""
        digest = hashlib.sha256(self.stream.encode() + b"\n" + self.body)
        return digest.hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class Question:
    """Rows to be predicted, ready to be sent to any of the models."""

    body: bytes
    rows: slice


def batches(
    stream: str, columns: Mapping[str, Cells], keys: Cells, at: slice | Ints
) -> Iterator[Batch]:
    """Yield the rows `at` in batches, in that order."""
    picked = {name: cells[at] for name, cells in columns.items()}
    picked_keys = keys[at]
    for start in range(0, len(picked_keys), BATCH_ROWS):
        part = slice(start, start + BATCH_ROWS)
        body = ndjson({name: cells[part] for name, cells in picked.items()})
        yield Batch(stream, body, picked_keys[part].tolist())


def questions(
    inputs: Sequence[Tensor],
    columns: Mapping[str, Cells],
    keys: Cells,
    times_us: Ints,
    rows: slice,
) -> Iterator[Question]:
    """Yield the rows as Open Inference requests: an input a feature, a key and a time a row."""
    wanted = {each.name: each.datatype for each in inputs if each.name not in _OWN_INPUTS}
    for start in range(rows.start, rows.stop, QUESTION_ROWS):
        part = slice(start, min(start + QUESTION_ROWS, rows.stop))
        shape = [part.stop - part.start]
        tensors: list[dict[str, object]] = [
            {
                "name": name,
                "shape": shape,
                "datatype": kind,
                "data": columns[name][part].tolist(),
            }
            for name, kind in wanted.items()
        ]
        for name, kind, cells in (
            ("entity_key", "BYTES", keys),
            ("event_time", "INT64", times_us),
        ):
            data = np.asarray(cells)[part].tolist()
            tensors.append({"name": name, "shape": shape, "datatype": kind, "data": data})
        yield Question(orjson.dumps({"inputs": tensors}), part)
