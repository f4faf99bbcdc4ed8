"""The one way to write to Kafka: idempotent, acknowledged by all, in batches."""

import sys
from functools import partial

from aiokafka import AIOKafkaProducer
from aiokafka.codec import zstd_encode
from aiokafka.record import default_records

_ZSTD_LEVEL = 1
"""aiokafka asks for 3, which takes twice as long and makes JSON of numbers no smaller."""


def open_producer(
    brokers: str,
    *,
    linger_ms: int = 0,
    max_batch_bytes: int = 262_144,
    max_request_bytes: int = 4 << 20,
) -> AIOKafkaProducer:
    """Make a producer; the caller starts and stops it, inside a running loop.

    With idempotence a record is retried until it is acknowledged, never expired, so the order
    of a partition holds; bound the wait yourself, and replace the producer after any failure.
    """
    _compress_faster()
    return AIOKafkaProducer(
        bootstrap_servers=brokers,
        enable_idempotence=True,
        acks="all",
        linger_ms=linger_ms,
        max_batch_size=max_batch_bytes,
        max_request_size=max_request_bytes,
        # aiokafka asks lz4 for level 9: eighteen times slower than zstd, and larger.
        compression_type="zstd",
        request_timeout_ms=15_000,
        metadata_max_age_ms=60_000,
    )


def _compress_faster() -> None:
    """Set the level where aiokafka's batches look for it: no argument of its leads there."""
    builders = sys.modules[default_records.DefaultRecordBatchBuilder.__module__]
    vars(builders)["zstd_encode"] = partial(zstd_encode, level=_ZSTD_LEVEL)
