"""A journal's folder belongs to one process at a time."""

import asyncio
import sys

import pytest
from fastapi import FastAPI

from gyral.kit.health import Health, UnstartableError
from gyral.kit.journal import Journal
from gyral.kit.service import Service
from gyral.kit.settings import ProcessSettings
from tests.libs.kit.journals import LIMITS, an_entry, everything, opened


async def test_a_second_process_is_refused_and_takes_nothing_from_the_first(tmp_path):
    journal = await opened(tmp_path)
    with pytest.raises(UnstartableError, match="expected no other process to use this folder"):
        await opened(tmp_path)
    await journal.append(an_entry(1))
    journal.close()
    assert await everything(await opened(tmp_path)) == [an_entry(1)]


async def test_a_process_that_is_stopping_is_waited_for(tmp_path):
    journal = await opened(tmp_path)
    successor = Journal(tmp_path, LIMITS)
    opening = asyncio.create_task(successor.open(patience_s=30))
    asyncio.get_running_loop().call_later(0.1, journal.close)
    await opening
    await successor.append(an_entry(1))


OWNER = """
import asyncio, sys
from pathlib import Path
from gyral.kit.journal import Journal, Limits
async def own():
    journal = Journal(Path(sys.argv[1]), Limits(1 << 20, 1 << 16, fsync=False))
    await journal.open(patience_s=0)
    print("open", flush=True)
    await asyncio.Event().wait()
asyncio.run(own())
"""


async def test_a_killed_owner_does_not_block_its_successor(tmp_path):
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    assert await owner.stdout.readline() == b"open\n"
    with pytest.raises(UnstartableError):
        await opened(tmp_path)
    owner.kill()
    await owner.wait()
    await opened(tmp_path)


class Holder:
    """A part that needs the folder."""

    def __init__(self, journal):
        self._journal = journal

    async def start(self):
        await self._journal.open(patience_s=0)

    async def stop(self):
        self._journal.close()

    def healthy(self):
        return None


async def test_a_service_whose_folder_is_taken_ends_with_one_line(tmp_path):
    await opened(tmp_path)
    service = Service(
        name="second",
        settings=ProcessSettings(kafka_brokers="127.0.0.1:1", state_dir=tmp_path),
        health=Health(),
        api=FastAPI(),
        parts=[Holder(Journal(tmp_path, LIMITS))],
    )
    with pytest.raises(SystemExit, match=r"^second: .*Stop it, or set STATE_DIR to [^\n]*$"):
        await service.run()
