"""The page on personal data: its stream can be declared, and its commands do what it says."""

import asyncio
import json
import os
import re
import secrets

import asyncpg
import pytest
import yaml

from gyral.contracts.specs.stream import StreamSpec
from gyral.contracts.training import Artifacts
from gyral.testkit.backends import fresh_schema
from gyral.testkit.processes import ServiceProcess
from tests.docs import pages
from tests.services.validation.conftest import KEY, World, model_declared, world
from tests.services.validation.people import KEYS, House, house, trip

__all__ = ["world"]
PAGE = pages.ROOT / "docs" / "personal-data.md"
ADA = f"ada{secrets.token_hex(6)}@example.org"


def test_the_stream_that_is_shown_can_be_declared():
    [document] = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    spec = StreamSpec.model_validate(yaml.safe_load(document)).spec
    assert (spec.subject, spec.personal) == ("patient", ("patient", "mail"))


async def gyral(home, registry, *words):
    """Run the command line against the processes and return what it printed."""
    urls = {
        "GYRAL_INGESTION_URL": home.door.url,
        "GYRAL_VALIDATION_URL": home.validation.url,
        "GYRAL_REGISTRY_URL": registry.url,
    }
    env = {**os.environ, **urls, "GYRAL_API_KEY": KEY, "GYRAL_HOME": str(home.folder / "none")}
    process = await asyncio.create_subprocess_exec(
        pages.ROOT / ".venv" / "bin" / "gyral",
        *words,
        cwd=home.folder,
        env={**env, "COLUMNS": "400"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert ADA.encode() not in out + err
    return out.decode()


async def plant_model(dsn, home: House, version):
    """Have the registry know a model that learned from a version of the stream."""
    model = model_declared("delay", home.stream, home.stream).spec
    pin = {"stream": home.stream, "version": version, "watermark": "2026-01-01T00:00:00Z"}
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        """
        INSERT INTO spec (kind, name, generation, document, sha256, declared_at, declared_by)
        VALUES ('Model', 'delay', 1, $1, 'x', now(), 'test')
        """,
        model.model_dump_json(),
    )
    blob = {"key": "a", "sha256": "a" * 64, "size_bytes": 1}
    artifacts = dict.fromkeys(Artifacts.model_fields, blob)
    await connection.execute(
        """
        INSERT INTO version (model, version, run_id, request_id, state, cause, as_of,
                             trained_until, spec_generation, code_sha256, seed, artifacts,
                             datasets, metrics, checks, reasons, registered_at)
        VALUES ('delay', 3, gen_random_uuid(), gen_random_uuid(), 'approved', 'manual', now(),
                now(), 1, $1, 7, $2, $3, '{}', '[]', '[]', now())
        """,
        "b" * 64,
        json.dumps(artifacts),
        json.dumps([pin]),
    )
    await connection.close()


@pytest.mark.live
@pytest.mark.timeout(300)
async def test_the_commands_erase_somebody_and_say_what_learned_from_them(
    world: World, tmp_path
):
    async with fresh_schema(world.backends) as dsn, house(world, tmp_path) as home:
        home.judge().start()
        env = world.backends.service_env(database=dsn, bucket=world.blobs.bucket)
        knobs = {
            "REGISTRY_ADMIN_KEY": secrets.token_hex(16),
            "INSTANCE_ID": secrets.token_hex(4),
        }
        registry = ServiceProcess("gyral.registry", {**env, **knobs}, tmp_path / "registry.log")
        registry.start()
        try:
            assert home.post(trip(0, ADA), trip(1, "bob")).status_code == 202
            assert home.post(trip(2, ADA, fare=9e9), trip(3, "bob")).status_code == 202
            await home.judged(rows=3, quarantined=1)
            await home.mark(9)
            await plant_model(dsn, home, max(home.versions()))
            (tmp_path / "patient.txt").write_text(f"{ADA}\n")
            said = {}
            for command in pages.commands(PAGE):
                [[program, *words]] = command.stages
                assert program == ".venv/bin/gyral"
                words = [home.stream if word == "visits" else word for word in words]
                said[command.text] = await gyral(home, registry, *words)
            listed = json.loads(said[".venv/bin/gyral subject ls --stream visits -o json"])
            [one] = listed
            assert (one["subject"], one["rows"], one["parked"]) == (KEYS.pseudonym(ADA), 1, 1)
            shown = await gyral(home, registry, "subject", "show", one["id"], "-o", "json")
            assert json.loads(shown)[0]["models"] == ["delay@3"]
            assert json.loads(shown)[0]["versions"] == one["versions"] != []
        finally:
            registry.stop()
