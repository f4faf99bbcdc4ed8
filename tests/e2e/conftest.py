"""A few weeks of flights, and specs that make the loop turn within them."""

from collections.abc import Mapping

import pytest

from tests.e2e.loop import Loop, prepare_flights, write_specs

RULES: Mapping[str, Mapping[str, object]] = {
    "train": {"holdout": "7d", "min_rows": 3000},
    "triggers": {"cooldown": "4d", "anyOf": [{"rows": 3500}, {"cusum": {"k": 0.5, "h": 5}}]},
    "gates": {
        "log_loss": {"lower_bound_above": -0.05, "min_blocks": 5},
        "slices": [],
        "calibration": 0.5,
        "latency_ratio": 5,
        "ece": 0.1,
    },
    "rollout": {"shadow": 200, "canary": [25, 100], "per_step": 500},
}
"""Gates lenient enough for three weeks of January: this is about the loop, not the model."""


@pytest.fixture(scope="session")
def flights(tmp_path_factory):
    target = tmp_path_factory.mktemp("flights") / "flights.parquet"
    return prepare_flights(target, "--from", "2013-01-01", "--to", "2013-02-09")


@pytest.fixture(scope="session")
def specs(tmp_path_factory):
    return write_specs(tmp_path_factory.mktemp("specs"), **RULES)


@pytest.fixture
def loop(tmp_path):
    running = Loop.started(tmp_path / "instance")
    yield running
    running.stack.down()
