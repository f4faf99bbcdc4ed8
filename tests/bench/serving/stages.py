"""Where a request's time goes in the gateway: each stage alone, over and over, on one core."""

import asyncio
import hashlib
import time
import timeit
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider

from gyral.contracts.deployment import Datatype, Input, RouteChanged, Share
from gyral.contracts.inference import Role
from gyral.gateway.api.entries import answer_body, entry
from gyral.gateway.api.questions import Expected, features_for, understand
from gyral.gateway.domain.routing import choose, plan
from gyral.gateway.store.kinds import Kind
from gyral.kit.frames import Batch, Rows, batch_payload
from gyral.kit.journal import Journal, Limits
from gyral.kit.segments import Entry
from tests.bench.serving.model import FEATURES, NAME

_REPEATS = 5
_CALLS = 2000
_KEY = b"key-of-this-benchmark"


async def measured(body: bytes, folder: Path) -> Mapping[str, float]:
    """Return microseconds a request, by stage, for a body of one row."""
    share = Share(
        version=1,
        weight=100,
        slot=f"{NAME}@1",
        sha256="0" * 64,
        inputs=tuple(Input(name=name, datatype=Datatype.FP32) for name in FEATURES),
    )
    laid_out = plan(
        RouteChanged(model=NAME, epoch=1, shares=(share,), runtime="unix:x", event_clock=False)
    )
    expected = Expected(laid_out.known_inputs, laid_out.order, event_clock=False, latest_us=0)
    question = understand(body, expected)
    features = features_for(question, share)
    names = tuple(each.name for each in share.inputs)
    request_id = str(uuid.uuid4())
    probabilities = [0.123456789] * question.rows
    seconds = MeterProvider().get_meter("bench").create_histogram("bench.seconds")

    def logged() -> bytes:
        return entry(
            question,
            features,
            request_id=request_id,
            model=NAME,
            version=1,
            role=Role.LIVE,
            epoch=1,
            answered_at_us=time.time_ns() // 1000,
            latency_us=100,
            probabilities=probabilities,
        )

    stages: dict[str, Callable[[], object]] = {
        "key": lambda: hashlib.sha256(_KEY).digest(),
        "read": lambda: understand(body, expected),
        "features": lambda: features_for(question, share),
        "route": lambda: choose(laid_out, request_id),
        "frame": lambda: batch_payload(
            Batch(share.slot, share.sha256, names, [Rows(question.rows, features.columns)])
        ),
        "answer": lambda: answer_body(question, NAME, 1, request_id, probabilities),
        "entry": logged,
        "metric": lambda: seconds.record(0.001, {"status": 200}),
    }
    told = {name: _us(stage) for name, stage in stages.items()}
    told["journal"] = await _journal_us(folder, request_id, logged())
    return {name: round(us, 2) for name, us in told.items()}


def _us(stage: Callable[[], object]) -> float:
    """Return microseconds a call: the least of some rounds, as others can only add."""
    return min(timeit.repeat(stage, number=_CALLS, repeat=_REPEATS)) / _CALLS * 1e6


async def _journal_us(folder: Path, request_id: str, payload: bytes) -> float:
    journal = Journal(folder, Limits(max_bytes=1 << 30, segment_bytes=16 << 20, fsync=False))
    await journal.open()
    try:
        item = Entry(Kind.PREDICTION_LIVE, request_id, 0, payload)
        rounds = []
        for _ in range(_REPEATS):
            began = time.perf_counter()
            await asyncio.gather(*(journal.append(item) for _ in range(_CALLS)))
            rounds.append(time.perf_counter() - began)
    finally:
        journal.close()
    return min(rounds) / _CALLS * 1e6
