"""Where a request's time goes in the gateway: each stage alone, over and over, on one core."""

import asyncio
import hashlib
import os
import time
import timeit
from collections.abc import Callable, Mapping
from pathlib import Path

from gyral.contracts.deployment import Datatype, Input, RouteChanged, Share
from gyral.contracts.inference import Role
from gyral.gateway.api.answering import Answer, Asking
from gyral.gateway.api.answers import answer_body
from gyral.gateway.api.asked import Expected
from gyral.gateway.api.entries import entry
from gyral.gateway.api.front import Said
from gyral.gateway.api.questions import features_for, understand
from gyral.gateway.api.requests import read_request
from gyral.gateway.domain.ids import Ids
from gyral.gateway.domain.routing import choose, plan
from gyral.gateway.store.kinds import Kind
from gyral.kit.frames import Batch, Rows, batch_payload
from gyral.kit.journal import Journal, Limits
from gyral.kit.segments import Entry
from gyral.kit.timings import Timings
from tests.bench.serving.model import FEATURES, NAME

_REPEATS = 5
_CALLS = 2000
_TURNS, _A_TURN = 200, 20
"""Answers are due together: about so many a turn of the loop, at 64 connections."""
_KEY = b"key-of-this-benchmark"


async def measured(body: bytes, folder: Path) -> Mapping[str, float]:
    """Return microseconds a request, by stage, for a body of the inference protocol."""
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
    new_id = Ids(os.urandom)
    asked = read_request(body, None, expected)
    question = understand(asked, expected)
    features = features_for(question, share)
    asking = Asking(laid_out, question, new_id())
    answer = Answer(share, features, [0.123456789] * question.rows, latency_us=100)
    said = Said(question, asking, answer, [])
    names = tuple(each.name for each in share.inputs)
    seconds = Timings("bench_seconds", "Time", label="status")
    stages: dict[str, Callable[[], object]] = {
        "key": lambda: hashlib.sha256(_KEY).digest(),
        "parse": lambda: read_request(body, None, expected),
        "check": lambda: understand(asked, expected),
        "features": lambda: features_for(question, share),
        "id": new_id,
        "route": lambda: choose(laid_out, asking.request_id),
        "frame": lambda: batch_payload(
            Batch(share.slot, share.sha256, names, [Rows(question.rows, features.columns)])
        ),
        "answer": lambda: answer_body(said),
        "entry": lambda: _logged(said),
        "metric": lambda: seconds.record(0.001, "200"),
    }
    told = {name: _us(stage) for name, stage in stages.items()}
    told["journal"] = await _journal_us(folder, asking.request_id, _logged(said))
    return {name: round(us, 2) for name, us in told.items()}


def _logged(said: Said) -> bytes:
    return entry(
        said.question,
        said.answer.features,
        request_id=said.asking.request_id,
        model=NAME,
        version=1,
        role=Role.LIVE,
        epoch=1,
        answered_at_us=time.time_ns() // 1000,
        latency_us=said.answer.latency_us,
        probabilities=said.answer.probabilities,
    )


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
            for _ in range(_TURNS):
                await asyncio.gather(*(journal.append(item) for _ in range(_A_TURN)))
            rounds.append(time.perf_counter() - began)
    finally:
        journal.close()
    return min(rounds) / (_TURNS * _A_TURN) * 1e6
