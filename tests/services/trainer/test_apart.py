"""What a network that is compared may see and do, and how its end is told."""

import asyncio
import os
import sys

import numpy as np
import pytest

from gyral.modelling.manifest import Manifest, TorchModel
from gyral.testkit.torch_models import SOURCE, torch_files
from gyral.trainer.engine.apart import MEMORY_BYTES, Apart, ApartError
from gyral.trainer.engine.child import end
from gyral.trainer.engine.order import TABLE_OPTIONS

pytestmark = pytest.mark.torch
pytest.importorskip("torch")
ROWS = np.zeros((4, 2), np.float32)
LOOKS = """
        import os, resource
        seen = [
            torch.get_num_threads(),
            sum("secret" in each for each in os.environ.values()),
            resource.getrlimit(resource.RLIMIT_AS)[1] / 2**30,
            resource.getrlimit(resource.RLIMIT_FSIZE)[1],
        ]
        return torch.tensor(seen[: len(matrix)], dtype=torch.float32)
"""
WRITES = """
import os
for pipe in range(3, 30):
    try:
        os.write(pipe, (13).to_bytes(8, "big") + b"failed:secret")
    except OSError:
        pass
os._exit(0)
"""


def apart(source, **limits):
    files = torch_files(source)
    model = Manifest.from_json(files.manifest).torch
    assert isinstance(model, TorchModel)
    return Apart.of(model, files.weights, files.code, width=2, **limits)


def test_it_answers_on_one_thread_under_limits_and_without_the_tables_credentials(monkeypatch):
    monkeypatch.setenv(TABLE_OPTIONS, '{"secret": "secret"}')
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    network = apart(
        SOURCE.replace("return torch.sigmoid(self.layer(matrix)).squeeze(1)", LOOKS.strip())
    )
    expected = [1.0, 0.0, MEMORY_BYTES / 2**30, 0.0]
    assert network.probabilities(ROWS).tolist() == expected
    assert network.probabilities(ROWS[:0]).tolist() == []
    pid = network.process.pid
    del network
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_its_code_writes_itself_is_not_told():
    with pytest.raises(ApartError, match="network: expected 0 bytes; found others"):
        apart(SOURCE + WRITES)


@pytest.mark.parametrize("limits", [{"timeout_s": 0.01}, {"memory_bytes": 1 << 20}])
def test_what_takes_too_long_or_too_much_is_ended_and_told(limits):
    seconds = limits.get("timeout_s", 900)
    with pytest.raises(ApartError, match=rf"expected an answer within {seconds:g} s"):
        apart(SOURCE, **limits)


async def test_a_training_that_died_leaves_nothing_that_it_started():
    """Standard output has an end once nobody has it any more."""
    starts = "import os\nif os.fork(): os._exit(1)\nprint('up', flush=True)\nwhile True: pass"
    training = await asyncio.create_subprocess_exec(
        sys.executable, "-c", starts, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert training.stdout is not None
    assert await training.stdout.readline() == b"up\n"
    # Not `wait`: that ends with the pipe.
    while training.returncode is None:
        await asyncio.to_thread(os.sched_yield)
    await end(training)
    assert await training.stdout.read() == b""
