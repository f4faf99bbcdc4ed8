"""Asks a model about the rows of stdin, a JSON object a line, in binary over HTTP."""

import json
import os
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput

KINDS = {
    "FP64": np.float64,
    "FP32": np.float32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "BYTES": np.object_,
}


def micros(time: str) -> int:
    """Return an RFC 3339 time as microseconds since 1970 UTC."""
    since = datetime.fromisoformat(time) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1)


def main(address: str, model: str) -> None:
    """Print a probability and the prediction's id a row; ADDRESS is host:port, without http."""
    if "GYRAL_API_KEY" not in os.environ:
        sys.exit("GYRAL_API_KEY: expected a key with scope infer; found none: export one")
    headers = {"authorization": f"Bearer {os.environ['GYRAL_API_KEY']}"}
    rows = [json.loads(line) for line in sys.stdin]
    client = InferenceServerClient(address)
    inputs = []
    for port in client.get_model_metadata(model, headers=headers)["inputs"]:
        name, datatype = port["name"], port["datatype"]
        if name in rows[0]:
            cells = [row[name] for row in rows]
            if name == "event_time":
                cells = [micros(cell) for cell in cells]
            if None in cells and not datatype.startswith("FP"):
                sys.exit(f"{name}: only FP32 and FP64 can be missing, as NaN; found null")
            cells = [np.nan if cell is None else cell for cell in cells]
            tensor = InferInput(name, [len(rows)], datatype)
            tensor.set_data_from_numpy(np.array(cells, dtype=KINDS[datatype]))
            inputs.append(tensor)
    answer = client.infer(model, inputs, headers=headers)
    ids = answer.as_numpy("prediction_id")
    for probability, prediction_id in zip(answer.as_numpy("probability"), ids, strict=True):
        print(probability, prediction_id.decode())
    client.close()


main(*sys.argv[1:])
