"""Postgres as every service meets it, and the errors that mean something outside is away."""

from typing import TYPE_CHECKING, TypeAlias

import asyncpg
from aiokafka import errors as kafka
from asyncpg.pool import PoolConnectionProxy

if TYPE_CHECKING:
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    Connection: TypeAlias = (
        asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    )
else:
    Pool: TypeAlias = asyncpg.Pool
    Connection: TypeAlias = asyncpg.Connection | PoolConnectionProxy

INFRASTRUCTURE: tuple[type[BaseException], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.TooManyConnectionsError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    kafka.KafkaConnectionError,
    kafka.KafkaTimeoutError,
    kafka.NodeNotReadyError,
    kafka.RequestTimedOutError,
    kafka.ProducerFenced,
    kafka.OutOfOrderSequenceNumber,
    kafka.UnknownTopicOrPartitionError,
    TimeoutError,
    OSError,
)
"""Errors that mean Postgres, Kafka or S3 is away: wait with back-off, never park."""

_OURS = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)
_CLOSED = ("is closed", "is closing", "been released", "is not connected")


def is_infrastructure(error: BaseException) -> bool:
    """Tell whether an error will pass by waiting, so that no event is blamed for it."""
    if isinstance(error, asyncpg.InternalClientError):
        # What asyncpg says of a connection that broke in the middle of an answer.
        return True
    if isinstance(error, asyncpg.InterfaceError):
        return any(part in str(error) for part in _CLOSED)
    if isinstance(error, kafka.KafkaError):
        return isinstance(error, INFRASTRUCTURE) or bool(error.retriable)
    return isinstance(error, INFRASTRUCTURE) and not isinstance(error, _OURS)


async def _keep_session(_connection: Connection) -> None:
    """Skip asyncpg's reset on release: sessions hold no state; traces would be full of it."""


def open_pool(dsn: str, *, max_size: int = 8) -> Pool:
    """Make a pool that connects once it is awaited or entered, and not before."""
    return asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=max_size,
        command_timeout=60,
        timeout=10,
        max_inactive_connection_lifetime=60,
        reset=_keep_session,
        server_settings={"timezone": "UTC", "idle_in_transaction_session_timeout": "300000"},
    )
