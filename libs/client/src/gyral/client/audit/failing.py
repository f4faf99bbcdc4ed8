"""What goes wrong while stores are read, told in one line as everything a person meets."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import msgspec
import pyarrow as pa
from aiokafka.errors import KafkaError
from deltalake.exceptions import DeltaError

from gyral.client.errors import ClientError

_PARTS: tuple[tuple[str, tuple[type[Exception], ...]], ...] = (
    ("Postgres", (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)),
    ("Kafka", (KafkaError, msgspec.DecodeError)),
    ("the lake", (DeltaError, pa.ArrowException)),
    ("a store", (OSError,)),
)


@contextmanager
def told_in_a_line() -> Iterator[None]:
    """Run a block that reads the platform's stores.

    Raises:
        ClientError: a store does not answer, or not as one of Gyral's.
    """
    try:
        yield
    except tuple(kind for _, kinds in _PARTS for kind in kinds) as error:
        part = next(name for name, kinds in _PARTS if isinstance(error, kinds))
        said = " ".join(str(error).split())[:200] or "no reason given"
        raise ClientError(
            f"{part}: expected an answer to every question of the audit; found "
            f"{type(error).__name__}: {said}: see `gyral status`"
        ) from error
