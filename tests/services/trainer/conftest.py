"""Synthetic streams with a known truth, as Delta tables on disk, and orders to train on."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from gyral.contracts.specs.model import ModelBody
from gyral.contracts.specs.stream import StreamBody
from gyral.trainer.engine.order import ChampionFiles, Order, Table

START = datetime(2026, 1, 1, tzinfo=UTC)
AS_OF = START + timedelta(days=61)
RIDES = StreamBody.model_validate(
    {
        "key": "ride_id",
        "event_time": "at",
        "clock": "event",
        "fields": {
            "ride_id": {"type": "string"},
            "at": {"type": "timestamp"},
            "zone": {"type": "string", "nullable": True},
            "distance": {"type": "number", "nullable": True},
            "seats": {"type": "integer"},
            "pooled": {"type": "boolean"},
        },
    }
)
ENDS = StreamBody.model_validate(
    {
        "key": "ride_id",
        "event_time": "known_at",
        "clock": "event",
        "fields": {
            "ride_id": {"type": "string"},
            "known_at": {"type": "timestamp"},
            "minutes_late": {"type": "integer", "nullable": True},
        },
    }
)


def model_body(**train: object) -> ModelBody:
    parameters = train.get("parameters")
    torch = isinstance(parameters, dict) and parameters.get("serve") == "torch"
    return ModelBody.model_validate(
        {
            "task": "binary-classification",
            "features": {"stream": "rides", "fields": ["zone", "distance", "seats", "pooled"]},
            "label": {
                "stream": "ends",
                "key": "ride_id",
                "positive": "minutes_late > 5",
                "horizon": "24h",
            },
            "train": {
                "trainer": "sklearn.hist_gradient_boosting",
                "holdout": "14d",
                "min_rows": 500,
                **train,
            },
            "gates": {"slices": ["zone"]},
            "serving": {"runtime": "own" if torch else "shared"},
        }
    )


def write_streams(folder: Path, *, rows: int = 12_000, seed: int = 3) -> tuple[Table, Table]:
    """Write two months of rides, most of them with an end known hours later."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(0, 61 * 86_400_000_000, rows))
    zone = rng.choice(["north", "south", "east"], rows)
    distance = rng.gamma(2.0, 4.0, rows)
    seats = rng.integers(1, 7, rows)
    pooled = rng.random(rows) < 0.3
    logit = -1.0 + 0.12 * (distance - 8.0) + (zone == "north") * 1.2 + pooled * 0.8
    late = np.where(rng.random(rows) < 1 / (1 + np.exp(-logit)), 12, 1)
    known = at + rng.integers(3_600_000_000, 6 * 3_600_000_000, rows)
    keys = np.array([f"ride-{number:06d}" for number in range(rows)])
    missing = rng.random(rows) < 0.05
    rides = pa.table(
        {
            "ride_id": keys,
            "at": _moments(at),
            "zone": pa.array(zone, mask=rng.random(rows) < 0.02),
            "distance": pa.array(distance, mask=missing),
            "seats": seats,
            "pooled": pooled,
        }
    )
    order = np.argsort(known[: rows - rows // 50])
    ends = pa.table(
        {
            "ride_id": keys[order],
            "known_at": _moments(known[order]),
            "minutes_late": late[order],
        }
    )
    for name, table in (("rides", rides), ("ends", ends)):
        write_deltalake(folder / name, table)
    return (
        Table(stream="rides", version=0, uri=str(folder / "rides"), spec=RIDES),
        Table(stream="ends", version=0, uri=str(folder / "ends"), spec=ENDS),
    )


def _moments(offsets_us: np.ndarray) -> pa.Array:
    start = int(START.timestamp() * 1e6)
    return pa.array(offsets_us + start, pa.timestamp("us", tz="UTC"))


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, Table]:
    return write_streams(tmp_path_factory.mktemp("lake"))


@pytest.fixture
def order(tables: tuple[Table, Table], tmp_path: Path) -> Callable[..., Order]:
    def make(
        *,
        as_of: datetime = AS_OF,
        champion: ChampionFiles | None = None,
        tables: tuple[Table, Table] = tables,
        **train: object,
    ) -> Order:
        run_id = str(uuid.uuid4())
        output = tmp_path / run_id
        output.mkdir()
        return Order(
            run_id=run_id,
            model="late-rides",
            spec=model_body(**train),
            as_of=as_of,
            features=tables[0],
            labels=tables[1],
            champion=champion,
            output=output,
        )

    return make
