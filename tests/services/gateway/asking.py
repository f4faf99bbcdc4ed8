"""Requests in every form, and what a version reads of them."""

import json
import struct

import msgspec
import numpy as np

from gyral.contracts.deployment import Datatype, Input, Share
from gyral.gateway.api.asked import Asked, Expected
from gyral.gateway.api.questions import features_for, understand
from gyral.gateway.api.requests import read_request

from .door import MODEL

NUMERIC = (
    Input(name="distance", datatype=Datatype.FP64, nullable=True),
    Input(name="hour", datatype=Datatype.INT64),
    Input(name="wet", datatype=Datatype.BOOL),
    Input(name="wind", datatype=Datatype.FP32),
)


def a_share(inputs=NUMERIC, version=1):
    return Share(
        version=version, weight=100, slot=f"{MODEL}@{version}", sha256="0" * 64, inputs=inputs
    )


def expected(inputs=NUMERIC, **more):
    order = tuple(each.name for each in inputs)
    usual = {"order": order, "event_clock": False, "latest_us": 1 << 60}
    return Expected(**{"inputs": frozenset(order), **usual, **more})


def read(asked: Asked, inputs=NUMERIC, **more):
    """Columns as the runtime takes them, and what is logged of the features."""
    features = features_for(understand(asked, expected(inputs, **more)), a_share(inputs))
    columns = features.columns
    if isinstance(columns, bytes):  # all numbers at once, row after row
        block = np.frombuffer(columns, "<f8").reshape(-1, len(inputs))
        columns = [block[:, place].tobytes() for place in range(len(inputs))]
    return columns, json.loads(msgspec.json.encode(features.json))


def features(tensors, inputs=NUMERIC, **more):
    """The same of tensors in JSON."""
    body = json.dumps({"inputs": tensors}).encode()
    return read(read_request(body, None, expected(inputs)), inputs, **more)


def one_a_feature(rows, inputs=NUMERIC):
    """Tensors in JSON, one for each input."""
    return [
        {
            "name": each.name,
            "shape": [len(rows)],
            "datatype": each.datatype,
            "data": list(cells),
        }
        for each, cells in zip(inputs, zip(*rows, strict=True), strict=True)
    ]


def raw(datatype, cells):
    """Cells as bytes, by numpy and struct instead of the gateway's own means."""
    if datatype == "BYTES":
        texts = [cell.encode() if isinstance(cell, str) else cell for cell in cells]
        return b"".join(struct.pack("<I", len(each)) + each for each in texts)
    if datatype == "BF16":
        return np.array(cells, "<f4").view("<u4").__rshift__(16).astype("<u2").tobytes()
    letter = {"B": "?", "U": "u", "I": "i", "F": "f"}[datatype[0]]
    size = "" if datatype == "BOOL" else int(datatype.lstrip("UINTFP")) // 8
    return np.array(cells, f"<{letter}{size}").tobytes()


def binary(tensors, **more):
    """(body, header) of a request whose tensors (name, shape, datatype, bytes) are binary."""
    inputs = [
        {
            "name": name,
            "shape": shape,
            "datatype": datatype,
            "parameters": {"binary_data_size": len(content)},
        }
        for name, shape, datatype, content in tensors
    ]
    text = json.dumps({"inputs": inputs, **more}).encode()
    behind = b"".join(content for *_, content in tensors)
    return text + behind, b"%d" % len(text)
