import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from gyral.contracts import catalogue
from gyral.local import compose
from gyral.local.provision import SERVICES
from gyral.testkit.backends import Backends

pytestmark = pytest.mark.live


@pytest.fixture
async def auditor(stack: Backends) -> AsyncIterator[asyncpg.Connection]:
    connection = await as_role(stack, "auditor")
    yield connection
    await connection.close()


async def as_role(stack: Backends, role: str, secret: str | None = None) -> asyncpg.Connection:
    own = stack.env[f"{role.upper()}_DATABASE_SECRET"]
    address = stack.env["POSTGRES_ADDRESS"]
    return await asyncpg.connect(f"postgresql://{role}:{secret or own}@{address}/gyral")


async def topics(stack: Backends) -> dict[str, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka_brokers)
    await admin.start()
    try:
        described = await admin.describe_topics([topic.name for topic in catalogue.topics()])
        return {topic["topic"]: len(topic["partitions"]) for topic in described}
    finally:
        await admin.close()


def listeners() -> dict[int, set[str]]:
    """Return each listening port with the addresses it listens on, in the kernel's notation."""
    found: dict[int, set[str]] = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, port = local.partition(":")
            if state == "0A":
                found.setdefault(int(port, 16), set()).add(address)
    return found


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


def test_every_server_is_up_and_listens_on_loopback_alone(stack: Backends):
    down = [name for name, status in stack.stack.statuses().items() if not status.is_up]
    assert down == []
    seen = listeners()
    ports = [
        int(stack.env[f"{n}_PORT"]) for n in ("KAFKA", "KAFKA_CONTROLLER", "POSTGRES", "S3")
    ]
    assert [port for port in ports if seen[port] - LOOPBACK] == []


async def test_topics_are_those_of_the_contracts(stack: Backends):
    wanted = {topic.name: topic.partitions for topic in catalogue.topics()}
    assert await topics(stack) == wanted


async def test_provisioning_again_changes_nothing(stack: Backends):
    graph = compose.services(stack.stack.instance.document(), stack.env)
    job = graph["provision"]
    before = await topics(stack)
    again = await asyncio.create_subprocess_exec(
        *job.command, env=dict(job.environment), stderr=asyncio.subprocess.PIPE
    )
    _, said = await again.communicate()
    assert again.returncode == 0, said.decode()
    assert await topics(stack) == before


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_works_in_its_own_schema_and_sees_no_other(
    stack: Backends, service: str
):
    other = next(name for name in SERVICES if name != service)
    connection = await as_role(stack, service)
    try:
        assert await connection.fetchval("SELECT current_schema()") == service
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"CREATE TABLE {other}.intruder (id int)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE TABLE public.intruder (id int)")
    finally:
        await connection.close()


async def test_the_auditor_reads_what_is_made_later_and_writes_nothing(
    stack: Backends, auditor: asyncpg.Connection
):
    owner = await as_role(stack, "trainer")
    try:
        await owner.execute("CREATE TABLE made_later AS SELECT 7 AS id")
        assert await auditor.fetchval("SELECT id FROM trainer.made_later") == 7
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await auditor.execute("INSERT INTO trainer.made_later VALUES (8)")
    finally:
        await owner.execute("DROP TABLE IF EXISTS made_later")
        await owner.close()


async def test_postgres_wants_the_right_password_by_scram(stack: Backends):
    with pytest.raises(asyncpg.InvalidPasswordError):
        await as_role(stack, "registry", secret="guessed")
    admin = await asyncpg.connect(stack.postgres_admin_dsn)
    try:
        rules = await admin.fetch("SELECT DISTINCT auth_method FROM pg_hba_file_rules")
        assert [rule["auth_method"] for rule in rules] == ["scram-sha-256"]
        settings = {
            name: await admin.fetchval("SELECT current_setting($1)", name)
            for name in ("fsync", "full_page_writes", "synchronous_commit")
        }
        assert settings == dict.fromkeys(settings, "on")
    finally:
        await admin.close()
