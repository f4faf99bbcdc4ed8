"""What the journal holds goes to Kafka as fast as it comes."""

from gyral.gateway import jobs
from gyral.gateway.jobs import Forwarder
from gyral.gateway.store.kinds import Kind
from gyral.kit.journal import Journal, Limits
from gyral.kit.segments import Entry
from gyral.testkit.waiting import until


async def test_a_backlog_is_sent_without_waiting_for_more(
    kafka_brokers, topic, tmp_path, monkeypatch
):
    monkeypatch.setattr(jobs, "_TOPIC", topic.name)
    monkeypatch.setattr(jobs, "_LINGER_S", 3600)
    monkeypatch.setattr(jobs, "_STOP_TIMEOUT_S", 0.1)
    journal = Journal(tmp_path, Limits(max_bytes=1 << 28, segment_bytes=1 << 22, fsync=False))
    forwarder = Forwarder(kafka_brokers, journal)
    await forwarder.start()
    try:
        for number in range(32):
            entry_id = f"00000000-0000-4000-8000-{number:012d}"
            entry = Entry(Kind.PREDICTION_LIVE, entry_id, number, b'"%b"' % (b"x" * 500_000))
            await journal.append(entry)
        assert journal.pending_bytes > 10 << 20

        async def nearly_all_sent():
            return journal.pending_bytes < 1 << 20

        await until(nearly_all_sent, timeout_s=30)
    finally:
        await forwarder.stop()
