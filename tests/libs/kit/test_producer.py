"""What the kit's producer asks of aiokafka."""

import json
import random

import cramjam

from gyral.kit.producer import open_producer

_BATCH_HEADER_BYTES = 61


async def test_batches_are_compressed_at_the_level_that_is_fast():
    producer = open_producer("127.0.0.1:1")
    try:
        batch = producer.create_batch()
        rng = random.Random(1)
        for _ in range(100):
            value = json.dumps([rng.gauss(0, 1) for _ in range(100)]).encode()
            assert batch.append(timestamp=None, key=b"key", value=value) is not None
        records = bytes(batch._build())[_BATCH_HEADER_BYTES:]  # noqa: SLF001
    finally:
        await producer.stop()
    plain = cramjam.zstd.decompress(records)
    assert records == bytes(cramjam.zstd.compress(plain, level=1))
    assert records != bytes(cramjam.zstd.compress(plain, level=3))
