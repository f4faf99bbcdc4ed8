"""`gyral predict`: what applications do."""

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import orjson

from gyral.client import addresses
from gyral.client.answers import Inferred, Metadata
from gyral.client.calls import Platform
from gyral.client.commands import output
from gyral.client.errors import ClientError
from gyral.client.replay.moments import micros

_QUESTION_ROWS = 32


async def predict(given: argparse.Namespace) -> int:
    """Ask a model about rows."""
    rows = [_object(number, line) for number, line in enumerate(_lines(given.rows), start=1)]
    path = f"/v2/models/{quote(given.model, safe='')}"
    shown = []
    async with Platform(addresses.find()) as platform:
        gateway = platform["gateway"]
        inputs = (await gateway.get(path, Metadata)).inputs
        fields = {"entity_key": given.key, "event_time": given.time}
        wanted = {
            each.name: (fields.get(each.name, each.name), each.datatype)
            for each in inputs
            if fields.get(each.name, each.name) is not None
        }
        for start in range(0, len(rows), _QUESTION_ROWS):
            part = rows[start : start + _QUESTION_ROWS]
            tensors = [
                {
                    "name": name,
                    "shape": [len(part)],
                    "datatype": datatype,
                    "data": [_cell(name, row.get(str(field))) for row in part],
                }
                for name, (field, datatype) in wanted.items()
            ]
            body = orjson.dumps({"inputs": tensors})
            answer = await gateway.post(f"{path}/infer", body, Inferred)
            shown += [
                {"probability": chance, "version": answer.model_version, "prediction_id": name}
                for chance, name in zip(
                    answer.output("probability"), answer.output("prediction_id"), strict=True
                )
            ]
    output.rows(shown, ("probability", "version", "prediction_id"), given.output)
    return 0


def _lines(file: Path | None) -> Sequence[bytes]:
    try:
        content = sys.stdin.buffer.read() if file is None else file.read_bytes()
    except OSError as error:
        raise ClientError(f"{file}: expected NDJSON; found {error.strerror}") from error
    return [line for line in content.split(b"\n") if line.strip()]


def _object(number: int, line: bytes) -> dict[str, object]:
    try:
        row = orjson.loads(line)
    except ValueError as error:
        raise ClientError(f"line {number}: expected JSON; found {error}") from error
    if not isinstance(row, dict):
        raise ClientError(f"line {number}: expected an object of fields; found {row!r:.60}")
    return row


def _cell(name: str, value: object) -> object:
    """Return a cell as the protocol has it: event times are microseconds there."""
    if name != "event_time" or not isinstance(value, str):
        return value
    try:
        return micros(datetime.fromisoformat(value))
    except (ValueError, TypeError) as error:
        raise ClientError(
            f"event_time: expected a time such as 2013-01-01T05:15:00Z; found {value!r:.40}"
        ) from error
