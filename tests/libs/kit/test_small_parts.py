"""Settings, waiting, logs and the classes of errors."""

import asyncio
import json
import os
import random
import subprocess
import sys

import asyncpg
import pytest
from aiokafka import errors as kafka
from pydantic import ValidationError

from gyral.kit.backoff import Backoff
from gyral.kit.changes import Changes
from gyral.kit.db import is_infrastructure
from gyral.kit.settings import CommonSettings
from gyral.kit.telemetry import current_traceparent, span


@pytest.fixture
def knobs(monkeypatch):
    for name in list(os.environ):
        if name.upper() in {knob.upper() for knob in CommonSettings.model_fields}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("KAFKA_BROKERS", "127.0.0.1:9092")
    monkeypatch.setenv("DATABASE", "postgresql://a:secret@127.0.0.1:5432/gyral")
    return monkeypatch


def test_settings_come_from_the_environment_and_hide_secrets(knobs):
    knobs.setenv("S3_SECRET_KEY", "hush")
    settings = CommonSettings()
    assert settings.dsn == "postgresql://a:secret@127.0.0.1:5432/gyral"
    assert settings.member("trainer") == "trainer-0"
    assert "hush" not in repr(settings)


def test_a_secret_may_come_from_a_file(knobs, tmp_path):
    (tmp_path / "key").write_text("hush\n")
    knobs.setenv("S3_SECRET_KEY_FILE", str(tmp_path / "key"))
    assert CommonSettings().s3_secret_key.get_secret_value() == "hush"


@pytest.mark.parametrize(
    ("name", "value"),
    [("HTTP_PORT", "70000"), ("DATABASE", "mysql://x"), ("HTTP_PORT", "many")],
)
def test_a_malformed_knob_is_named(knobs, name, value):
    knobs.setenv(name, value)
    with pytest.raises(ValidationError, match=name.lower()):
        CommonSettings()


async def test_a_change_wakes_whoever_waits():
    changes = Changes(poll_s=60)
    state: list[int] = []
    waiting = asyncio.create_task(changes.wait_until(lambda: len(state) == 2, 20))
    for step in (1, 2):
        await asyncio.wait({waiting}, timeout=0.01)
        state.append(step)
        changes.notify()
    assert await asyncio.wait_for(waiting, 5)


async def test_a_wait_ends_when_its_time_is_over():
    assert not await Changes().wait_until(lambda: False, 0.05)
    assert await Changes().wait_until(lambda: True, -1)


def test_delays_grow_to_their_limit_and_start_over():
    backoff = Backoff(first_s=1, limit_s=8, rng=random.Random(1))
    delays = [backoff.next_s() for _ in range(6)]
    for delay, whole in zip(delays, [1, 2, 4, 8, 8, 8], strict=True):
        assert whole / 2 <= delay <= whole
    backoff.reset()
    assert backoff.next_s() <= 1


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (OSError("Multiple exceptions"), True),
        (asyncpg.ConnectionDoesNotExistError("gone"), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.DeadlockDetectedError("again"), True),
        (kafka.KafkaConnectionError("away"), True),
        (kafka.NotLeaderForPartitionError("moved"), True),
        (
            asyncpg.InterfaceError(
                "the server expects 1 argument for this query, 2 were passed"
            ),
            False,
        ),
        (asyncpg.UniqueViolationError("twice"), False),
        (asyncpg.UndefinedTableError("none"), False),
        (kafka.MessageSizeTooLargeError("big"), False),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (ValueError(), False),
        (KeyError(), False),
    ],
    ids=repr,
)
def test_only_what_passes_by_waiting_is_infrastructure(error, passes):
    assert is_infrastructure(error) is passes


LOGGING = """
from gyral.kit import exporters
from gyral.kit.telemetry import get_log, span, current_traceparent
exporters.setup("tester", traces_endpoint=None, log_level="info")
import logging
parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
with span("outer", parent=parent, gyral__key="k"):
    get_log().info("thing.happened", name="a\\x1b[31m\\nfake line")
    print(current_traceparent())
logging.getLogger("some.library").warning("tricky\\nline")
logging.getLogger("httpx").info("HTTP Request: GET http://127.0.0.1/")
get_log().debug("unseen")
"""


def test_log_lines_are_json_and_cannot_be_forged():
    done = subprocess.run(
        [sys.executable, "-c", LOGGING], capture_output=True, text=True, check=True, timeout=60
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["thing.happened", "tricky\nline"]
    assert lines[0]["name"] == "a\x1b[31m\nfake line"
    assert {line["service"] for line in lines} == {"tester"}
    assert lines[0]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert "\x1b" not in done.stderr
    assert done.stdout.startswith("00-0af7651916cd43dd8448eb211c80319c-")


def test_without_a_tracer_a_parent_is_passed_on():
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert current_traceparent() is None
    with span("a", parent=parent):
        assert current_traceparent() == parent
