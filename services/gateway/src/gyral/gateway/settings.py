"""The gateway's knobs."""

from typing import Annotated

from pydantic import Field, SecretStr

from gyral.kit.settings import ProcessSettings


class Settings(ProcessSettings):
    """Read once, in `__main__`; a missing or malformed value stops the process at start."""

    service_key: SecretStr = SecretStr("")
    """What the gateway and runtimes show each other to know over TCP; not needed elsewhere."""

    gateway_request_timeout_s: Annotated[float, Field(gt=0, le=120)] = 10
    """How long a request may wait for its version: a runtime's restart fits into it."""
    gateway_fallback_timeout_s: Annotated[float, Field(gt=0, le=60)] = 2
    """How long another live version may then take, where the route has one."""
    gateway_hang_timeout_s: Annotated[float, Field(gt=0, le=120)] = 5
    """Silence of a runtime after which its connection is given up."""
    gateway_max_requests: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Requests in hand; more are refused with 429."""
    gateway_max_version_requests: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Requests of one version in hand; more are refused with 429."""
    gateway_queue_s: Annotated[float, Field(gt=0, le=60)] = 0.1
    """How long a request may have to wait for its turn, as the last batches tell; else 429."""
    gateway_max_body_bytes: Annotated[int, Field(ge=1024, le=16 << 20)] = 1 << 20
    """Largest request body."""
    gateway_future_s: Annotated[float, Field(ge=0)] = 300.0
    """How far ahead of now an event time may lie, of a row or of a marker."""
    gateway_grpc_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Where gRPC is spoken, on HTTP_HOST; 0 is any free port, and None is nowhere."""
    gateway_max_shadows: Annotated[int, Field(ge=0, le=100_000)] = 256
    """Shadow copies of one model in hand; more are not made."""

    gateway_journal_max_bytes: Annotated[int, Field(ge=1 << 20)] = 1 << 30
    """Logged predictions kept while Kafka is away; then 503."""
    gateway_journal_segment_bytes: Annotated[int, Field(ge=1 << 16, le=1 << 30)] = 16 << 20
    """Size at which a journal file ends and the next begins."""
    gateway_journal_fsync: bool = False
    """True: an answer also survives the machine, at the price of a disk sync a batch."""

    gateway_snapshot_after_s: Annotated[float, Field(gt=0, le=60)] = 1
    """How long Kafka may take to tell routes and keys before the last known ones are used."""
    gateway_span_one_in: Annotated[int, Field(ge=100)] = 100
    """One request in so many is traced, whatever its caller asks for."""
