"""`gyral apply` returns once everybody knows; then whatever follows may rely on it."""

import asyncio
import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import httpx
import pytest
import yaml

from gyral.client import commandline, declaring
from gyral.client.addresses import Addresses
from gyral.client.calls import Platform
from gyral.client.documents import read
from tests.libs.client.conftest import ADMIN, FIELDS
from tests.libs.client.test_calls import DONE, a_service, answer

TOPIC = "data.stream.declared.v1"


def a_file(folder, name="m"):
    document = {
        "apiVersion": "gyral/v1",
        "kind": "Stream",
        "metadata": {"name": name},
        "spec": {"key": "id", "event_time": "at", "clock": "event", "fields": FIELDS},
    }
    path = folder / "stream.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def knows(topics):
    return answer(200, json.dumps(topics).encode())


async def test_a_service_is_asked_until_it_knows_and_one_that_does_not_follow_is_not(tmp_path):
    specs = read(a_file(tmp_path))
    others = [knows({})] * (len(declaring.PROJECTING) - 1)
    behind = knows({TOPIC: {}}), knows({TOPIC: {"m": 0}}), knows({TOPIC: {"m": 1}})
    said: list[str] = []
    async with a_service(answer(200, DONE), *behind, *others) as (registry, asked, _):
        services = ("registry", *declaring.PROJECTING)
        found = Addresses(dict.fromkeys(services, registry.http.url), "k")
        async with Platform(found) as platform:
            applied = await declaring.declare(platform, specs)
            await declaring.known(platform, specs, applied, said.append)
    assert len(asked) == 1 + len(behind) + len(others)
    assert len(said) == len(declaring.PROJECTING)


def applied(sender, path, *words, **urls):
    with (
        ThreadPoolExecutor(1) as beside,  # a loop of its own, as the command line makes one
        patch.dict("os.environ", sender.environment | urls),
    ):
        return beside.submit(
            commandline.run, ["apply", "-f", str(path), *words, "-o", "json"]
        ).result()


@pytest.mark.live
async def test_what_apply_declared_may_be_used_at_once(sender, tmp_path, capsys):
    sender, _ = sender
    name = f"orders-{secrets.token_hex(4)}"
    path = a_file(tmp_path, name)
    door = sender.ways.ingestion.url
    urls = {f"GYRAL_{each.upper()}_URL": door for each in declaring.PROJECTING}
    assert await asyncio.to_thread(applied, sender, path, **urls) == 0
    assert json.loads(capsys.readouterr().out)[0]["generation"] == 1
    keyed = {"authorization": f"Bearer {ADMIN}"}
    async with httpx.AsyncClient(headers=keyed, timeout=30) as client:
        marker = {"event_time": "2020-01-01T00:00:00Z"}
        done = await client.post(f"{door}/v1/streams/{name}/watermark", json=marker)
    assert done.is_success


@pytest.mark.live
async def test_apply_tells_when_it_cannot_see_whether_all_know(sender, tmp_path, capsys):
    sender, _ = sender
    path = a_file(tmp_path, f"orders-{secrets.token_hex(4)}")
    assert await asyncio.to_thread(applied, sender, path) == 1
    err = capsys.readouterr().err
    assert err.startswith("gyral: declared, but not known everywhere yet (--no-wait returns")
    assert "validation: expected an address" in err
    assert await asyncio.to_thread(applied, sender, path, "--no-wait") == 0
