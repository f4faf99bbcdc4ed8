"""Events, specs and evaluations as the registry meets them; a test names what it varies."""

from datetime import UTC, datetime, timedelta

from gyral.contracts.data import DatasetCommitted
from gyral.contracts.evaluation import BlockLosses, EvaluationReport, Latency, Parity, Scores
from gyral.contracts.names import BlobRef, DatasetPin
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.specs.stream import StreamSpec
from gyral.contracts.training import Artifacts, Cause, RunSucceeded
from gyral.testkit.events import delivered

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = "11111111-1111-4111-8111-111111111111"
REQUEST = "22222222-2222-4222-8222-222222222222"
START = datetime(2026, 1, 1, tzinfo=UTC)
END = START + timedelta(days=14)


def a_blob(name):
    return BlobRef(key=f"models/churn/{name}", sha256="a" * 64, size_bytes=10)


def artifacts():
    names = ("onnx", "manifest", "profile", "golden", "evaluation")
    return Artifacts(**{name: a_blob(name) for name in names})


def a_run(champion=None, run_id=RUN):
    pins = tuple(
        DatasetPin(stream=name, version=3, watermark=END) for name in ("visits", "orders")
    )
    run = RunSucceeded(
        request_id=REQUEST,
        model="churn",
        run_id=run_id,
        cause=Cause.CUSUM if champion else Cause.BOOTSTRAP,
        as_of=END,
        artifacts=artifacts(),
        datasets=pins,
        trained_until=START,
        champion_version=champion,
        code_sha256="b" * 64,
        spec_generation=1,
        seed=7,
        train_rows=1000,
        holdout_rows=1400,
        metrics={"challenger_log_loss": 0.4},
    )
    return delivered(run)


def scores(**changes):
    given = {
        "log_loss": 0.40,
        "brier": 0.12,
        "ece": 0.01,
        "auc": 0.8,
        "mean_probability": 0.25,
        "lowest": 0.01,
        "highest": 0.99,
        "nan_rows": 0,
        "outside_rows": 0,
        "constant": False,
    }
    return Scores(**(given | changes))


def a_report(champion=None, *, gain=0.02, noise=0.005, days=14, run_id=RUN, **changes):
    """An evaluation whose daily gain over the champion swings by `noise` around `gain`."""
    daily = [gain + noise * (1 if day % 2 else -1) for day in range(days)]
    given = {
        "model": "churn",
        "run_id": run_id,
        "as_of": END,
        "trained_until": START,
        "champion_version": champion,
        "champion_trained_until": START if champion else None,
        "window_start": START,
        "window_end": END,
        "block_us": 86_400_000_000,
        "rows": 100 * days,
        "unlabelled_rows": 0,
        "base_rate": 0.25,
        "training_base_rate": 0.25,
        "baseline_log_loss": 0.56,
        "challenger": scores(),
        "champion": scores(log_loss=0.40 + gain, brier=0.13) if champion else None,
        "blocks": tuple(
            BlockLosses(
                block=day,
                rows=100,
                positives=25,
                challenger_log_loss=40.0,
                champion_log_loss=(40.0 + 100 * better) if champion else None,
                challenger_brier=12.0,
                champion_brier=13.0 if champion else None,
                baseline_log_loss=56.0,
            )
            for day, better in enumerate(daily)
        ),
        "parity": Parity(rows=1400, largest=1e-7, mean=1e-8, share_within=1.0, tolerance=1e-4),
        "latency": Latency(
            batch_rows=64, challenger_us=50, champion_us=50 if champion else None
        ),
    }
    return EvaluationReport(**(given | changes))


def a_stream(name="visits", *, subject=None, **fields):
    given = {
        "id": {"type": "string"},
        "at": {"type": "timestamp"},
        "pages": {"type": "number"},
    }
    return StreamSpec.model_validate(
        {
            "apiVersion": "gyral/v1",
            "kind": "Stream",
            "metadata": {"name": name},
            "spec": {
                "key": "id",
                "event_time": "at",
                "clock": "event",
                "fields": given | fields,
                "subject": subject,
            },
        }
    )


def a_model(**train):
    return ModelSpec.model_validate(
        {
            "apiVersion": "gyral/v1",
            "kind": "Model",
            "metadata": {"name": "churn"},
            "spec": {
                "task": "binary-classification",
                "features": {"stream": "visits", "fields": ["pages"]},
                "label": {"stream": "orders", "key": "id", "positive": "amount > 0"},
                "train": {"trainer": "sklearn.hist_gradient_boosting", "min_rows": 100} | train,
            },
        }
    )


def committed(stream, rows=1000, version=1, watermark=END, passed_until=None):
    pin = DatasetPin(stream=stream, version=version, watermark=watermark)
    event = DatasetCommitted(
        dataset=pin,
        rows=rows,
        table_uri=f"s3://gyral/lake/{stream}",
        passed_until=passed_until,
    )
    return delivered(event)
