"""What the gateway tells of its models, read as the deployer reads it."""

import asyncio

import pytest

from gyral.contracts.inference import ServingDemand
from gyral.gateway.engine.reporting import Asked, Reporter
from gyral.kit.tailing import Tail
from gyral.testkit.processes import free_port
from gyral.testkit.waiting import until

pytestmark = pytest.mark.live


@pytest.fixture
async def heard(kafka_brokers):
    told: list[ServingDemand] = []
    tail = Tail(kafka_brokers, ServingDemand, told.append)
    await tail.start()
    yield told
    await tail.stop()


async def test_counts_are_told_within_a_second_and_a_waiting_request_at_once(
    kafka_brokers, heard
):
    counts: dict[str, Asked] = {}
    reporter = Reporter(kafka_brokers, "gateway-test", lambda: dict(counts))
    await reporter.start()
    counts["counted"] = Asked(requests=9, refused=1, answered=4, queued_s=0.2, queue_max_s=0.1)
    await until(lambda: [each for each in heard if each.gateway == "gateway-test"])
    told = heard[-1]
    assert (told.model, told.requests, told.refused, told.answered) == ("counted", 9, 1, 4)
    assert (told.queue_mean_s, told.queue_max_s, told.waiting) == (0.05, 0.1, 0)
    assert 0 < told.window_s < 60
    counts.clear()
    reporter.away("asleep")
    await until(lambda: heard[-1].model == "asleep")
    assert (heard[-1].requests, heard[-1].waiting) == (0, 1)
    assert reporter.healthy() is None
    await reporter.stop()
    assert "expected it to run" in str(reporter.healthy())


async def test_a_second_in_which_nobody_asked_is_told_too(kafka_brokers, heard):
    reporter = Reporter(kafka_brokers, "gateway-quiet", dict)
    await reporter.start()
    await until(lambda: sum(each.gateway == "gateway-quiet" for each in heard) > 1)
    await reporter.stop()
    assert {(each.model, each.requests, each.waiting) for each in heard} == {(None, 0, 0)}
    assert heard[-1].key == "gateway-quiet"


async def test_without_kafka_it_lives_and_counts():
    """Who reads the figures, such as an autoscaler, may still reach it."""
    looked: asyncio.Queue[None] = asyncio.Queue()

    def collect():
        looked.put_nowait(None)
        return {"uncut": Asked(requests=2)}

    reporter = Reporter(f"127.0.0.1:{free_port()}", "gateway-test", collect)
    await reporter.start()
    reporter.away("m")
    for _ in range(2):
        await looked.get()
    assert reporter.healthy() is None
    await reporter.stop()
