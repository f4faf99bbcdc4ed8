"""What is asked of a server: one request to check its answer, then many through wrk."""

import json
import math
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

TOLERANCE = 1e-5
_MARK = "GYRAL "
_TIMEOUT_S = 10
_SCRIPT = """
wrk.method = "POST"
wrk.body = {body}
{headers}
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{mark}{{"requests":%d,"us":%d,"p50_us":%d,"p99_us":%d,"refused":%d,"broken":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
"""


class NotReadyError(RuntimeError):
    """The server does not answer yet, or answers with an error."""


class WrongAnswerError(RuntimeError):
    """The server answers 200 with something else than onnxruntime does."""


class NoWrkError(RuntimeError):
    """The load generator is not installed."""


@dataclass(frozen=True, slots=True)
class Target:
    """One request, and the probabilities that its answer must hold."""

    url: str
    body: bytes
    expected: Sequence[float]
    headers: Mapping[str, str]


class Window(msgspec.Struct, frozen=True):
    """What wrk saw in a window; times in microseconds."""

    requests: int
    us: int
    p50_us: int
    p99_us: int
    refused: int
    """Answers that are neither 2xx nor 3xx."""
    broken: int
    """Connections that failed, and requests without an answer in time."""

    @property
    def rps(self) -> float:
        """Requests answered a second."""
        return self.requests / self.us * 1e6


def wrk() -> str:
    """Return where wrk is.

    Raises:
        NoWrkError: nowhere.
    """
    found = shutil.which("wrk")
    if found is None:
        raise NoWrkError("wrk: expected the load generator; found none: apt-get install wrk")
    return found


def check(target: Target, *, timeout_s: float = 5.0) -> None:
    """Ask once and compare every probability.

    Raises:
        NotReadyError: no answer, or an error.
        WrongAnswerError: a probability is nowhere in the answer, or the answer is no JSON.
    """
    try:
        answer = httpx.post(
            target.url, content=target.body, headers=target.headers, timeout=timeout_s
        )
    except httpx.TransportError as error:
        raise NotReadyError(f"{target.url}: {error}") from error
    if not answer.is_success:
        raise NotReadyError(f"{target.url}: {answer.status_code} {answer.text[:200]!r}")
    try:
        found = list(_numbers(answer.json()))
    except ValueError as error:
        raise WrongAnswerError(f"{target.url}: expected JSON; found {error}") from error
    for wanted in target.expected:
        if not any(math.isclose(each, wanted, rel_tol=0, abs_tol=TOLERANCE) for each in found):
            raise WrongAnswerError(
                f"{target.url}: expected {wanted:.6f}; found {answer.text[:200]!r}"
            )


def load(target: Target, folder: Path, *, connections: int, seconds: float) -> Window:
    """Ask from one thread over so many connections, each as soon as it was answered.

    Raises:
        RuntimeError: wrk failed, or something was not answered with success.
    """
    script = folder / "wrk.lua"
    script.write_text(_script(target), encoding="utf-8")
    arguments = [wrk(), "--threads", "1", "--connections", str(connections)]
    arguments += ["--duration", f"{math.ceil(seconds)}s", "--timeout", f"{_TIMEOUT_S}s"]
    ended = subprocess.run(
        [*arguments, "--script", str(script), target.url],
        capture_output=True,
        text=True,
        check=False,
    )
    told = next((row for row in ended.stdout.splitlines() if row.startswith(_MARK)), None)
    if ended.returncode or told is None:
        raise RuntimeError(f"wrk: {(ended.stderr or ended.stdout).strip()[:300]}")
    window = msgspec.json.decode(told.removeprefix(_MARK), type=Window)
    if window.refused or window.broken or not window.requests:
        raise RuntimeError(
            f"{target.url}: expected every request answered with success; found"
            f" {window.refused} refused and {window.broken} broken of {window.requests}"
        )
    return window


def _script(target: Target) -> str:
    headers = "\n".join(
        f"wrk.headers[{_quoted(name.encode())}] = {_quoted(value.encode())}"
        for name, value in target.headers.items()
    )
    return _SCRIPT.format(body=_quoted(target.body), headers=headers, mark=_MARK)


def _quoted(data: bytes) -> str:
    """Return bytes as a Lua string: its escapes are decimal."""
    return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _numbers(each)


def as_json(document: object) -> bytes:
    """Return a request's body."""
    return json.dumps(document).encode()
