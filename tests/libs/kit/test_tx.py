"""Transactions: the fake and the real one pass one suite."""

import pytest

from gyral.contracts.catalogue import EVENTS
from gyral.kit.tx import CLAIMS_KEPT_DAYS, Tx, begin, forget_claims
from gyral.testkit.memory import MemoryTx, memory_begin
from gyral.testkit.suites import TxSuite

SEGMENT_DAYS = 7
"""What one segment of a topic spans at most: the default of Kafka, and of all our topics."""


class TestMemoryTx(TxSuite):
    @pytest.fixture
    def tx(self):
        return MemoryTx(service="kit")

    @pytest.fixture
    def begin(self, tx):
        return memory_begin(tx)

    @pytest.fixture
    def published(self, tx):
        async def read():
            return [
                (
                    e.delivery.event_id,
                    e.delivery.causation_id,
                    e.delivery.correlation_id,
                    e.number,
                )
                for e in tx.published
            ]

        return read


class TestPostgresTx(TxSuite):
    pytestmark = pytest.mark.live

    @pytest.fixture
    def begin(self, pool):
        return begin(pool, Tx, service="kit")

    @pytest.fixture
    def published(self, pool):
        async def read():
            rows = await pool.fetch(
                """
                SELECT event_id, header_names, header_values,
                       (convert_from(value, 'UTF8')::json ->> 'number')::int AS number
                  FROM outbox
                 ORDER BY seq
                """
            )
            found = []
            for row in rows:
                headers = dict(zip(row["header_names"], row["header_values"], strict=True))
                causation = headers.get(b"ce_causationid", b"").decode() or None
                correlation = headers[b"ce_correlationid"].decode()
                found.append((row["event_id"], causation, correlation, row["number"]))
            return found

        return read


@pytest.mark.live
async def test_old_claims_are_forgotten_and_recent_ones_kept(pool):
    await pool.execute(
        """
        INSERT INTO inbox (consumer, event_id, claimed_at)
        VALUES ('kit/a', 'old', now() - interval '50 days'),
               ('kit/a', 'kept', now() - interval '40 days'), ('kit/a', 'new', now())
        """
    )
    await forget_claims(pool)
    kept = await pool.fetch("SELECT event_id FROM inbox ORDER BY event_id")
    assert [row["event_id"] for row in kept] == ["kept", "new"]


def test_claims_are_kept_longer_than_kafka_may_keep_their_events():
    kept_days = [it.topic.retention_hours / 24 for it in EVENTS if not it.topic.compacted]
    assert max(kept_days) + SEGMENT_DAYS < CLAIMS_KEPT_DAYS
