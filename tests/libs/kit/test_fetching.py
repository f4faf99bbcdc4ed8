"""What a sink's consumer hands out: what aiokafka's own does, record by record."""

import asyncio
import gc
import weakref
from itertools import islice
from operator import attrgetter

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from gyral.kit.fetching import Fetched, SinkConsumer, Unpacked, lighten
from tests.libs.kit.reading import consume

FIELDS = ("topic", "partition", "offset", "timestamp", "key", "value", "headers")
seen = attrgetter(*FIELDS)
PLACE = TopicPartition("t", 3)
TEXT = st.none() | st.binary(max_size=40)
RECORDS = st.lists(
    st.tuples(TEXT, TEXT, st.lists(st.tuples(st.text(max_size=5), TEXT), max_size=3)),
    min_size=1,
    max_size=6,
)
GZIP = 1


def batch_of(first, records, codec):
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
    for offset, (key, value, headers) in enumerate(records):
        assert builder.append(offset, 1000 + offset, key, value, headers) is not None
    built = builder.build()
    built[:8] = first.to_bytes(8, "big")  # as a broker does; no checksum covers it
    return bytes(built)


def aiokafkas(text, wanted):
    check_crcs = True
    return PartitionRecords(
        PLACE, MemoryRecords(text), None, wanted, None, None, check_crcs, READ_UNCOMMITTED
    )


def both(text, wanted):
    """Return aiokafka's own iterator and ours, over the same bytes."""
    return aiokafkas(text, wanted), Unpacked(aiokafkas(text, wanted))


@given(
    batches=st.lists(st.tuples(RECORDS, st.sampled_from([0, GZIP])), min_size=1, max_size=4),
    gap=st.integers(0, 3),
    wanted=st.integers(0, 30),
    cuts=st.lists(st.integers(1, 5)),
)
def test_records_and_positions_are_aiokafkas_wherever_one_stops(batches, gap, wanted, cuts):
    text, first = b"", 10
    for records, codec in batches:
        text += batch_of(first, records, codec)
        first += len(records) + gap  # compaction leaves gaps
    theirs, ours = both(text, wanted)
    for cut in [*cuts, 100]:
        expected = [seen(record) for record in islice(theirs, cut)]
        assert [seen(record) for record in islice(ours, cut)] == expected
        assert ours.next_fetch_offset == theirs.next_fetch_offset
        if len(expected) < cut:
            break
    assert next(ours, None) is None


def test_what_lies_before_a_broken_batch_is_taken_and_no_more():
    good = batch_of(0, [(b"k", b"v", [])], 0)
    bad = bytearray(batch_of(1, [(b"k", b"value", [])], 0))
    bad[-3] ^= 1
    for records in both(good + bytes(bad), 0):
        assert next(records).offset == 0
        with pytest.raises(CorruptRecordException):
            next(records)
        assert records.next_fetch_offset == 1


def test_what_was_fetched_is_given_up_with_its_last_record():
    text = batch_of(0, [(b"k", b"v", [])] * 3, 0)
    theirs = aiokafkas(text, 0)
    gone = weakref.ref(theirs)
    result = FetchResult(PLACE, assignment=None, partition_records=theirs, backoff=0)
    gc.disable()  # in a cycle it would stay until many more objects were made
    try:
        lighten(result)
        del theirs
        assert gone() is None
    finally:
        gc.enable()
    assert isinstance(result._partition_records, Unpacked)  # noqa: SLF001
    assert len(list(result._partition_records)) == 3  # noqa: SLF001


def test_an_answer_of_which_a_part_was_taken_is_left_as_it_is():
    theirs = aiokafkas(batch_of(0, [(b"k", b"v", [])] * 3, 0), 0)
    result = FetchResult(PLACE, assignment=None, partition_records=theirs, backoff=0)
    assert next(theirs).offset == 0
    lighten(result)
    assert result._partition_records is theirs  # noqa: SLF001


@pytest.mark.live
async def test_a_consumer_hands_out_what_another_reads_control_records_left_out(
    kafka_brokers, topic
):
    consumer = SinkConsumer(
        topic.name,
        bootstrap_servers=kafka_brokers,
        group_id=topic.name,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        await _produce(kafka_brokers, topic.name)
        found: list[Fetched] = []
        async with asyncio.timeout(30):
            while len(found) < 12:
                for records in (await consumer.getmany(timeout_ms=500, max_records=2)).values():
                    assert len(records) <= 2
                    found += records
        assert {type(record) for record in found} == {Fetched}
        expected = sorted(map(seen, await consume(kafka_brokers, topic.name, 12, linger_s=0.2)))
        assert sorted(map(seen, found)) == expected
        assert len(expected) == 12
    finally:
        await consumer.stop()


async def _produce(brokers, topic):
    """Commit two transactions: each ends with a record of Kafka's own."""
    async with AIOKafkaProducer(bootstrap_servers=brokers, transactional_id=topic) as producer:
        for number in range(2):
            async with producer.transaction():
                for at in range(6):
                    await producer.send_and_wait(
                        topic,
                        b"%d" % at if at else None,
                        key=b"k%d" % number,
                        partition=at % 3,
                        headers=[("h", b"x")] * at,
                    )
