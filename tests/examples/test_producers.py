"""Each example producer against a real Kafka: what it sends reads as the contract says."""

import asyncio
import secrets
import shutil
import subprocess
import sys

import orjson
import pytest
from aiokafka.partitioner import murmur2

from gyral.contracts.data import RecordSubmitted
from gyral.kit import cloudevents
from gyral.local.instance import jar_folder
from tests.docs.pages import ROOT
from tests.libs.client.conftest import records_of

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]
FOLDER = ROOT / "examples" / "producers"
ROWS = {
    "a-1": {"id": "a-1", "at": "2025-01-01T00:00:00Z", "amount": 1.5},
    'say "hi"': {"id": 'say "hi"', "at": "2025-01-01T00:00:00Z", "amount": None},
    "back\\slash": {"id": "back\\slash", "at": "2025-01-01T00:00:00Z"},
    "tür & straße": {"id": "tür & straße", "at": "2025-01-01T00:00:00Z", "note": "50 % \\n"},
    **{
        f"n{number}": {"id": f"n{number}", "at": "2025-01-01T00:00:00Z"} for number in range(20)
    },
}


def command(kind):
    match kind:
        case "python":
            return [sys.executable, FOLDER / "python" / "produce.py"]
        case "java":
            return ["java", "-cp", f"{jar_folder()}/kafka/*", FOLDER / "java" / "Producer.java"]
        case _:
            return [FOLDER / "kcat.sh"]


@pytest.fixture
def produced(stack):
    """Run an example over the rows; return what Kafka holds then."""

    async def run(kind):
        stream = f"orders-{secrets.token_hex(4)}"
        lines = [f"{key}\t{orjson.dumps(values).decode()}\n" for key, values in ROWS.items()]
        done = await asyncio.to_thread(
            subprocess.run,
            [*map(str, command(kind)), stack.kafka_brokers, stream],
            input="".join(lines),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return stream, await records_of(stack.kafka_brokers, stream)

    return run


@pytest.mark.parametrize("kind", ["python", "java", "kcat"])
async def test_an_example_sends_what_the_contract_says(produced, kind):
    if kind == "kcat" and shutil.which("kcat") is None:
        pytest.skip("kcat is not installed, and no prerequisite of Gyral")
    stream, found = await produced(kind)
    rows = [cloudevents.parse(record, RecordSubmitted) for record in found]
    assert len(rows) == len(ROWS)
    assert {row.record_key: row.values for row in rows} == ROWS
    assert {(row.stream, row.schema_version) for row in rows} == {(stream, 1)}
    assert len({row.delivery.event_id for row in rows}) == len(ROWS)
    for record, row in zip(found, rows, strict=True):
        assert record.key == row.record_key.encode()
        hashed = murmur2(record.key) & 0x7FFFFFFF
        assert record.partition == hashed % RecordSubmitted.topic.partitions, row.record_key
