import asyncio
import json
import random
import re
import tempfile
from collections import Counter
from pathlib import Path

import grpc
import grpc.aio
import pytest
from tritonclient.grpc import service_pb2

from gyral.contracts.deployment import Datatype, Input

from .asking import NUMERIC
from .conftest import INPUTS
from .door import MODEL, open_door
from .hostile import DATATYPES, LENGTHS, NAMES, cases
from .test_rpc import CODE, call, typed, untyped

LEAKS = re.compile(r"Traceback|File \"|\.py\b|site-packages|/usr/|/tmp/|0x[0-9a-f]{8}|<class")
TOLD = {CODE.OK, CODE.INVALID_ARGUMENT, CODE.NOT_FOUND}
FEW, MANY = 10_000, 100_000
many = [pytest.mark.long, pytest.mark.timeout(3000)]


def head(case):
    lines = [
        b"POST %b HTTP/1.1" % case.path.encode(),
        b"Host: a",
        b"Authorization: Bearer asker",
    ]
    lines.append(b"Content-Length: %d" % len(case.body))
    if case.header is not None:
        lines.append(b"Inference-Header-Content-Length: " + case.header)
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def answer_of(reader):
    """Status and body; without a client library, which would take most of the time."""
    said = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = re.search(rb"\r\ncontent-length: (\d+)", said)
    assert length is not None
    return int(said.split()[1]), await reader.readexactly(int(length[1]))


async def answers(inputs, seed, count):
    """How often each status was given, and each kind of message."""
    statuses: Counter[int] = Counter()
    messages: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        async with open_door(Path(folder), Path(folder, "r.sock"), inputs) as door:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            try:
                for case in cases(inputs, seed, count):
                    writer.write(head(case) + case.body)
                    status, body = await answer_of(reader)
                    statuses[status] += 1
                    assert status < 500, (case, body)
                    if status != 200:
                        error = json.loads(body)["error"]
                        assert not LEAKS.search(error), (case, error)
                        assert 0 < len(error) <= 1000
                        messages[re.sub(r"found.*|\d+|`.*", "", error)] += 1
            finally:
                writer.close()
    return statuses, messages


@pytest.mark.parametrize("inputs", [INPUTS, NUMERIC], ids=["mixed", "numeric"])
@pytest.mark.parametrize(
    ("seed", "count"),
    [(1, FEW // 2), pytest.param(2, MANY // 2, marks=many)],
)
async def test_no_request_is_the_gateways_fault_and_no_answer_tells_of_its_insides(
    inputs, seed, count
):
    statuses, messages = await answers(inputs, seed, count)
    assert statuses.keys() <= {200, 400, 413}
    # The cases reach into every corner: many are answered, and refused for many reasons.
    assert statuses[200] > count / 50
    assert len(messages) > 40, messages


def a_message(rng):
    inputs = typed()
    behind = []
    if rng.random() < 0.5:
        inputs, behind = untyped()
    for _ in range(rng.randrange(3)):
        tensor = rng.choice(inputs)
        match rng.randrange(5):
            case 0:
                axes = (*[n for n in LENGTHS if n < 2**63], 1, 1, 2)
                tensor["shape"] = [rng.choice(axes) for _ in range(rng.randrange(4))]
            case 1:
                tensor["datatype"] = rng.choice(DATATYPES)
            case 2:
                tensor["name"] = rng.choice(NAMES)
            case 3:
                tensor["contents"] = rng.choice(inputs).get(
                    "contents", {"bool_contents": [True]}
                )
            case 4:
                inputs.append(dict(tensor))
    if behind and rng.random() < 0.5:
        place = rng.randrange(len(behind))
        behind[place] = behind[place][: rng.randrange(9)] + rng.randbytes(rng.randrange(9))
    message = service_pb2.ModelInferRequest(
        model_name=MODEL, inputs=inputs, raw_input_contents=behind
    ).SerializeToString()
    if rng.random() < 0.2:
        broken = bytearray(message)
        broken[rng.randrange(len(broken))] = rng.randrange(256)
        message = bytes(broken)
    return message


@pytest.mark.parametrize(
    ("seed", "count"), [(1, FEW // 4), pytest.param(2, MANY // 4, marks=many)]
)
async def test_no_message_is_the_gateways_fault_either(seed, count):
    rng = random.Random(seed)
    codes: Counter[grpc.StatusCode] = Counter()
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        async with (
            open_door(Path(folder), Path(folder, "r.sock")) as door,
            grpc.aio.insecure_channel(f"127.0.0.1:{door.rpc_port}") as channel,
        ):
            for _ in range(count):
                message = a_message(rng)
                code, said = await call(channel, "ModelInfer", message)
                codes[code] += 1
                assert code in TOLD, (message, said)
                assert code == CODE.OK or not LEAKS.search(said), said
    assert codes[CODE.OK] > count / 50
    assert codes[CODE.INVALID_ARGUMENT] > count / 50


async def test_what_is_sent_is_echoed_at_most_in_part():
    inputs = (Input(name="x", datatype=Datatype.FP64),)
    long = "a" * 200_000
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        async with open_door(Path(folder), Path(folder, "r.sock"), inputs) as door:
            tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}
            for broken in ({"name": long}, {"datatype": long}, {"parameters": {long: long}}):
                body = json.dumps({"inputs": [{**tensor, **broken}]}).encode()
                refused = await door.ask(f"/v2/models/{MODEL}/infer", body)
                assert refused.status_code == 400
                assert len(refused.text) < 1000
