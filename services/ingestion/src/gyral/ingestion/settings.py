"""What ingestion can be told: how much it takes at once, how long it waits and remembers."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from gyral.kit.personal import PersonalSecret
from gyral.kit.settings import CommonSettings


class WhenKafkaIsAway(StrEnum):
    """What happens to rows that Kafka does not acknowledge."""

    REFUSE = "refuse"
    SPOOL = "spool"


class Settings(CommonSettings):
    """The common settings and ingestion's own knobs."""

    personal_secret: PersonalSecret
    """What pseudonyms of personal fields follow from; validation has the same one."""
    ingestion_max_body_bytes: Annotated[int, Field(ge=1024, le=256 << 20)] = 8 << 20
    """Largest request body as it arrives."""
    ingestion_max_inflated_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 32 << 20
    """Largest body after gzip or zstd is undone, and largest Parquet file when unpacked."""
    ingestion_max_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Most rows of one request."""
    ingestion_max_in_flight: Annotated[int, Field(ge=1, le=1000)] = 16
    """Requests worked on at once; more are answered 429."""
    ingestion_kafka_wait_s: Annotated[float, Field(gt=0, le=120)] = 10.0
    """Longest wait for Kafka to acknowledge a request's rows; then 503."""
    ingestion_future_s: Annotated[float, Field(ge=0)] = 300.0
    """How far beyond this machine's clock an event time may lie."""
    ingestion_idempotency_h: Annotated[float, Field(gt=0)] = 24.0
    """Hours for which an Idempotency-Key is remembered."""
    ingestion_when_kafka_is_away: WhenKafkaIsAway = WhenKafkaIsAway.REFUSE
    """`refuse`: 503. `spool`: rows are kept on a synced local file and answered 202."""
    ingestion_spool_bytes: Annotated[int, Field(ge=1 << 20)] = 1 << 30
    """Most that the spool may hold; then 503."""
