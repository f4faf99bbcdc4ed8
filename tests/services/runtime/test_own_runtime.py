"""A trained network, from its files in the object store to its answers over a real socket."""

from array import array

import numpy as np
import pytest

from gyral.contracts.evaluation import GoldenRows
from gyral.kit.frames import Kind
from gyral.testkit.processes import free_port
from gyral.trainer.engine.order import Order, Progress
from gyral.trainer.engine.training import train
from tests.services.trainer.conftest import AS_OF, model_body, write_streams

from .test_app import ask, load, started, states

pytestmark = [pytest.mark.live, pytest.mark.torch]
pytest.importorskip("torch")
RUN = "33333333-3333-4333-8333-333333333333"
FILES = {
    "onnx": "model.safetensors",
    "code": "code.zip",
    "manifest": "manifest.json",
    "golden": "golden.json",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small transformer's files."""
    folder = tmp_path_factory.mktemp("trained")
    features, labels = write_streams(folder / "lake", rows=3000)
    out = folder / "out"
    out.mkdir()
    parameters = {"serve": "torch", "epochs": 1, "width": 8, "heads": 2, "blocks": 1}
    spec = model_body(trainer="torch.transformer", folds=2, parameters=parameters)
    order = Order(
        run_id=RUN,
        model="late-rides",
        spec=spec,
        as_of=AS_OF,
        features=features,
        labels=labels,
        champion=None,
        output=out,
    )
    said: list[Progress] = []
    train(order, said.append)
    return out


async def test_a_trained_network_answers_as_it_was_fitted_also_after_a_crash_without_the_store(
    stack, blobs, trained
):
    refs = {
        part: await blobs.put_bytes(f"m/{name}", (trained / name).read_bytes())
        for part, name in FILES.items()
    }
    golden = GoldenRows.model_validate_json((trained / "golden.json").read_bytes())
    with started(stack, blobs, RUNTIME_FLAVOUR="torch") as runtime:
        answer = load(runtime, refs)
        assert answer.status_code == 200, answer.text
        for _ in range(2):
            assert states(runtime) == {"m@1": "READY"}
            kind, payload = ask(runtime, refs["onnx"].sha256, **cells(golden))
            assert kind is Kind.PROBABILITIES
            found = np.frombuffer(payload, "<f8")
            np.testing.assert_allclose(found, golden.probabilities, atol=golden.tolerance)
            runtime.kill()
            runtime.env = {**runtime.env, "S3_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
            runtime.start()


def cells(golden):
    """Golden columns as a gateway sends them: numbers packed, with NaN for what is missing."""
    return {
        name: array("d", [np.nan if cell is None else cell for cell in column]).tobytes()
        if name in {"distance", "seats"}
        else column
        for name, column in golden.columns.items()
    }
