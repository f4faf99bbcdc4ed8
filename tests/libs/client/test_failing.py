import asyncpg
import msgspec
import pyarrow as pa
import pytest
from aiokafka.errors import KafkaTimeoutError
from deltalake.exceptions import DeltaError

from gyral.client.audit import checking
from gyral.client.audit.failing import told_in_a_line
from gyral.client.errors import ClientError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (asyncpg.UndefinedTableError("no table"), "Postgres: expected"),
        (asyncpg.InterfaceError("connection is closed"), "Postgres: expected"),
        (KafkaTimeoutError(), "Kafka: expected"),
        (msgspec.DecodeError("truncated"), "Kafka: expected"),
        (DeltaError("no log"), "the lake: expected"),
        (pa.ArrowInvalid("no Parquet"), "the lake: expected"),
        (ConnectionResetError(), "a store: expected"),
    ],
)
def test_a_store_that_fails_is_named_in_a_line(error, said):
    with pytest.raises(ClientError, match=said) as told, told_in_a_line():
        raise error
    assert type(error).__name__ in str(told.value)


def test_a_mistake_of_our_own_stays_one():
    with pytest.raises(KeyError), told_in_a_line():
        raise KeyError("mine")


@pytest.mark.live
async def test_stores_that_no_service_ever_wrote_to_are_told_in_a_line(stack):
    with pytest.raises(ClientError, match=r"Postgres: expected an answer .* UndefinedTable"):
        await checking.check(stack.env, None, patience_s=0)
