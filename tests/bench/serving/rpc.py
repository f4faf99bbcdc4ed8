"""The same question over gRPC: one request to check its answer, then many through h2load."""

import math
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

import grpc
import numpy as np

from gyral.gateway.api.messages import SERVICE, Messages, Value
from tests.bench.serving.load import TOLERANCE, NotReadyError, Target, Window, WrongAnswerError

METHOD = f"/{SERVICE}/ModelInfer"
_HEADERS = {"content-type": "application/grpc", "te": "trailers"}
_UNCOMPRESSED = 0
_PREFIX = struct.Struct(">BI")
"""In front of every message: compressed or not, and its length."""
_OK = 200
_MESSAGES = Messages()


class _Named(Protocol):
    name: str


class _Answer(Protocol):
    outputs: Sequence[_Named]
    raw_output_contents: Sequence[bytes]


class NoH2loadError(RuntimeError):
    """The load generator is not installed."""


def h2load() -> str:
    """Return where h2load is.

    Raises:
        NoH2loadError: nowhere.
    """
    found = shutil.which("h2load")
    if found is None:
        raise NoH2loadError(
            "h2load: expected the load generator; found none: apt-get install nghttp2-client"
        )
    return found


def question(model: str, name: str, shape: Sequence[int], cells: bytes) -> bytes:
    """Return a ModelInferRequest with one tensor of FP32, raw."""
    tensor: Mapping[str, Value] = {"name": name, "datatype": "FP32", "shape": list(shape)}
    return _MESSAGES.write(
        "ModelInferRequest", model_name=model, inputs=[tensor], raw_input_contents=[cells]
    )


def check(target: Target, *, timeout_s: float = 5.0) -> None:
    """Ask once and compare every probability.

    Raises:
        NotReadyError: no answer, or an error.
        WrongAnswerError: the answer holds other numbers.
    """
    address = target.url.removeprefix("http://").removesuffix(METHOD)
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary(METHOD, _same, _same)
        try:
            answer = ask(target.body, timeout_s, metadata=tuple(target.headers.items()))
        except grpc.RpcError as error:
            raise NotReadyError(f"{target.url}: {error}") from error
    said = cast("_Answer", _MESSAGES.read("ModelInferResponse", answer))
    raw = dict(zip([each.name for each in said.outputs], said.raw_output_contents, strict=True))
    found = np.frombuffer(raw["probability"], dtype="<f8")
    if found.shape != (len(target.expected),) or not np.allclose(
        found, target.expected, rtol=0, atol=TOLERANCE
    ):
        raise WrongAnswerError(
            f"{target.url}: expected {target.expected}; found {found.tolist()}"
        )


def load(target: Target, folder: Path, *, connections: int, seconds: float) -> Window:
    """Ask over so many connections from one thread, each as soon as it was answered.

    h2load does not read gRPC's own status, which comes after the answer: who calls compares the
    requests with what the server says that it answered.

    Raises:
        RuntimeError: h2load failed, or something was not answered with 200.
    """
    body, log = folder / "grpc.body", folder / "grpc.log"
    body.write_bytes(_PREFIX.pack(_UNCOMPRESSED, len(target.body)) + target.body)
    log.unlink(missing_ok=True)
    arguments = [h2load(), "--threads", "1", "--clients", str(connections)]
    arguments += ["--max-concurrent-streams", "1", "--duration", str(math.ceil(seconds))]
    arguments += ["--data", str(body), "--log-file", str(log)]
    for name, value in (_HEADERS | dict(target.headers)).items():
        arguments += ["--header", f"{name}: {value}"]
    ended = subprocess.run(
        [*arguments, target.url], capture_output=True, text=True, check=False
    )
    if ended.returncode or not log.exists():
        raise RuntimeError(f"h2load: {(ended.stderr or ended.stdout).strip()[:300]}")
    return window(np.loadtxt(log, dtype=np.int64, ndmin=2), math.ceil(seconds))


def window(asked: "np.ndarray[tuple[int, int], np.dtype[np.int64]]", seconds: int) -> Window:
    """Return what a log of h2load tells.

    Args:
        asked: a row a request: when it began, its status, how long it took; microseconds.
        seconds: how long it asked.

    Raises:
        RuntimeError: something was not answered with 200, or nothing at all.
    """
    refused = int((asked[:, 1] != _OK).sum()) if len(asked) else 0
    if refused or not len(asked):
        raise RuntimeError(
            f"grpc: expected every request answered with 200; found {refused} others of"
            f" {len(asked)}"
        )
    p50_us, p99_us = np.quantile(asked[:, 2], (0.5, 0.99))
    return Window(
        requests=len(asked),
        us=seconds * 1_000_000,
        p50_us=round(float(p50_us)),
        p99_us=round(float(p99_us)),
        refused=0,
        broken=0,
    )


def _same(message: bytes) -> bytes:
    return message
