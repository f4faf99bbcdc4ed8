"""What the first request to a model waits whose runtimes have all gone: a cold start."""

import statistics
import time

from gyral.testkit.backends import Backends
from tests.bench.serving.report import ColdStart
from tests.services.deployer.house import Served
from tests.services.deployer.making import a_making_house

STARTS = 5
_ASKS = 100
_SERVING = {"runtime": "own", "replicas": {"min": 0, "max": 1}, "idle": "1s"}


def run(backends: Backends, starts: int = STARTS) -> ColdStart:
    """Have a small model fall asleep and ask it, again and again.

    Raises:
        RuntimeError: an answer was refused or came from another version.
    """
    with a_making_house(backends) as house:
        model = house.model(serving=_SERVING)
        model.live()
        warm = [_seconds(model) for _ in range(_ASKS)]
        cold = []
        for _ in range(starts):
            house.until(
                model.name,
                lambda group: group["wanted"] == 0 and house.pid(model.name) is None,
            )
            cold.append(_seconds(model))
    return ColdStart(
        starts=starts,
        p50_s=round(statistics.median(cold), 2),
        longest_s=round(max(cold), 2),
        warm_p50_ms=round(statistics.median(warm) * 1e3, 2),
    )


def _seconds(model: Served) -> float:
    """Return how long an answer takes, which must be the version's."""
    began = time.perf_counter()
    answer = model.ask()
    took_s = time.perf_counter() - began
    if answer.status_code != 200 or answer.json()["model_version"] != "1":
        raise RuntimeError(f"expected an answer of version 1; found {answer.text}")
    return took_s
