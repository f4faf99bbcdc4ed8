"""Logged predictions reach their model's table once, whatever is sent twice or dies."""

import asyncio
import uuid

import asyncpg
import orjson
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from gyral.contracts.inference import PredictionLogged

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]
TOPIC = PredictionLogged.topic.name


def answer(world, request_id, role="live", **values):
    return {
        "request_id": request_id,
        "model": world.model,
        "version": 3,
        "role": role,
        "epoch": 2,
        "answered_at": 1_767_225_600_000_000,
        "latency_us": 900,
        "entity_keys": ["f1", None],
        "event_times": [1_767_225_600_000_001, None],
        "features": {"carrier": ["AA", None]},
        "probabilities": [0.25, 0.75],
        **values,
    }


async def log(world, *answers):
    for one in answers:
        value = one if isinstance(one, bytes) else orjson.dumps(one)
        await world.producer.send_and_wait(TOPIC, value, key=b"k")


async def table(world):
    """Return the model's table as rows; empty while there is none."""
    try:
        found = DeltaTable(
            world.table_uri(f"predictions-{world.model}"), storage_options=world.table_options()
        )
    except TableNotFoundError:
        return []
    return found.to_pyarrow_table().to_pylist()


async def refusals(world):
    conn = await asyncpg.connect(world.dsn)
    try:
        rows = await conn.fetch(
            "SELECT reason FROM quarantine WHERE stream = $1", f"predictions-{world.model}"
        )
    finally:
        await conn.close()
    return sorted(row["reason"] for row in rows)


async def test_an_answer_is_kept_once_a_role_and_bad_ones_aside(world):
    first, second, last = (str(uuid.uuid4()) for _ in range(3))
    await log(
        world,
        answer(world, first),
        answer(world, first),
        answer(world, first, role="shadow", probabilities=[None, None], error="timeout"),
        answer(world, second, features={"carrier": [1, 2]}),
        answer(world, second, features={"nothing": ["a", "b"]}),
        b"{",
    )
    await world.killed_at("after_predictions_lake")
    await log(world, answer(world, first), answer(world, last))
    async with world.process(VALIDATION_PREDICTIONS_WAIT_S="0.2"), asyncio.timeout(60):
        while last not in {row["request_id"] for row in await table(world)}:
            pass
        while len(await refusals(world)) < 2:
            pass
    rows = await table(world)
    kept = sorted((row["request_id"], row["role"], row["row"]) for row in rows)
    assert kept == sorted(
        (request_id, role, number)
        for request_id, role in ((first, "live"), (first, "shadow"), (last, "live"))
        for number in (0, 1)
    )
    assert await refusals(world) == ["type", "unknown_field"]
    [row] = [row for row in rows if (row["request_id"], row["row"]) == (last, 0)]
    assert (row["version"], row["epoch"], row["probability"]) == (3, 2, 0.25)
    assert (row["feature_carrier"], row["entity_key"]) == ("AA", "f1")
