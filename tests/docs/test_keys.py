"""Keys as docs/asking.md shows them, issued and taken back while a gateway runs."""

import asyncio
import json
import secrets
from functools import partial

import httpx
import pytest

from gyral.client.commandline import run
from gyral.testkit.backends import fresh_schema
from gyral.testkit.processes import ServiceProcess
from gyral.testkit.waiting import until
from tests.docs import pages

pytestmark = pytest.mark.live
PAGE = pages.ROOT / "docs" / "asking.md"
LIVE = "/v2/health/live"


@pytest.fixture
async def registry(stack, tmp_path, monkeypatch):
    """A registry and where its command line finds it."""
    async with fresh_schema(stack) as dsn:
        admin = secrets.token_hex(16)
        env = stack.service_env(database=dsn, bucket="unused")
        process = ServiceProcess(
            "gyral.registry",
            {**env, "REGISTRY_ADMIN_KEY": admin, "INSTANCE_ID": secrets.token_hex(4)},
            tmp_path / "registry.log",
        )
        process.start()
        monkeypatch.setenv("GYRAL_REGISTRY_URL", process.url)
        monkeypatch.setenv("GYRAL_API_KEY", admin)
        monkeypatch.setenv("GYRAL_HOME", str(tmp_path / "none"))
        yield process
        process.stop()


@pytest.fixture
def gateway(stack, tmp_path):
    process = ServiceProcess(
        "gyral.gateway",
        {"STATE_DIR": str(tmp_path / "gateway"), "KAFKA_BROKERS": stack.kafka_brokers},
        tmp_path / "gateway.log",
    )
    process.start(health=LIVE)
    yield process
    process.stop()


def typed(command):
    [[program, *words]] = command.stages
    assert program == ".venv/bin/gyral"
    return words


async def test_a_key_is_issued_bounded_rotated_and_revoked_without_a_restart(
    registry, gateway, capfd
):
    issuing, listing, revoking = [
        typed(each)
        for each in pages.commands(PAGE)
        if " key " in each.text or "keys" in each.text
    ]

    async def gyral(*words):
        assert await asyncio.to_thread(run, words) == 0, capfd.readouterr().err
        return capfd.readouterr().out

    async def status(key, model="churn"):
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            headers = {"authorization": f"Bearer {key}"}
            return (await client.get(f"/v2/models/{model}", headers=headers)).status_code

    old, new = [json.loads(await gyral(*issuing, "-o", "json"))[0] for _ in range(2)]
    for issued in (old, new):
        # Nothing answers here: 404 is told to those who may ask, 403 before anything is told.
        await until(partial(_is, status, issued["key"], 404))
        assert await status(issued["key"], "another") == 403
    listed = json.loads(await gyral(*listing, "-o", "json"))
    mine = [each for each in listed if each["name"] == "shop"]
    assert [each["models"] for each in mine] == [["churn"]] * 2
    assert old["key"] not in json.dumps(listed)
    await gyral(*[old["key_id"] if word.startswith("0000") else word for word in revoking])
    await until(partial(_is, status, old["key"], 401))
    assert await status(new["key"]) == 404
    soon = json.loads(
        await gyral("key", "issue", "x", "--scope", "infer", "--expires", "2s", "-o", "json")
    )[0]
    await until(partial(_is, status, soon["key"], 404))
    await until(partial(_is, status, soon["key"], 401))


async def _is(status, key, wanted):
    return await status(key) == wanted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scope", "read", "--model", "churn"], "models: "),
        (["--scope", "infer", "--expires", "2020-01-01T00:00:00Z"], "expires_at: "),
        (["--scope", "infer", "--expires", "soon"], "--expires: expected a time such as"),
        (
            ["--scope", "infer", "--expires", "2027-01-01T00:00:00"],
            "--expires: expected a time",
        ),
    ],
)
async def test_a_key_that_bounds_nothing_is_refused(registry, capfd, words, said):
    assert await asyncio.to_thread(run, ["key", "issue", "x", *words]) == 1
    assert said in capfd.readouterr().err
